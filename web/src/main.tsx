import { render } from "preact";
import { App } from "./app";
import { wearScheme } from "./scheme";
import "./style.css";

wearScheme();
render(<App />, document.getElementById("page")!);
