/** Models: put in beside each other, tried on what came before, switched to and back. */

import { useState } from "preact/hooks";
import { Failed, useList } from "./administration";
import { get, send, sendFiles } from "./api";
import { Moment } from "./level";
import { follow } from "./route";
import { LEVEL_TEXT, type Level } from "./types";

interface Model {
  id: number;
  name: string;
  state: string;
  added: string;
  answers: number;
}

interface Trial {
  model: number;
  waiting: number;
  failed: number;
  answered: number;
  changed: number;
  levels: Record<string, Record<string, number>>;
  changes: Change[];
}

interface Change {
  image: number;
  study: number;
  from: { level: Level; probability: number };
  to: { level: Level; probability: number };
}

const TRIED_ON = 200;

export function Models() {
  const { rows, failed, act } = useList<Model>("/models", "models");
  const [trial, setTrial] = useState<Trial | null>(null);
  const [share, setShare] = useState<number | null>(null);
  const put = (event: Event) => {
    const input = event.currentTarget as HTMLInputElement;
    const files = [...(input.files ?? [])];
    input.value = "";
    if (files.length) act(() => sendFiles("/models", {}, "file", files, setShare).finally(() => setShare(null)));
  };
  const show = (model: Model) => act(async () => setTrial(await get<Trial>(`/models/${model.id}/trial`)));
  const begin = (model: Model) =>
    act(async () => {
      await send("POST", `/models/${model.id}/trial`, { last: TRIED_ON });
      setTrial(await get<Trial>(`/models/${model.id}/trial`));
    });
  const change = (model: Model) => {
    if (confirm(`Have ${model.name} answer from now on?`)) act(() => send("POST", `/models/${model.id}/switch`));
  };
  return (
    <section class="card" aria-labelledby="models-title">
      <h2 id="models-title">Models</h2>
      <div class="wide-table">
        <table>
          <thead>
            <tr>
              <th scope="col">Name</th>
              <th scope="col">State</th>
              <th scope="col">Answers</th>
              <th scope="col">Added</th>
              <th scope="col">
                <span class="spoken">What to do</span>
              </th>
            </tr>
          </thead>
          <tbody>
            {rows.map((model) => (
              <tr key={model.id}>
                <td>{model.name}</td>
                <td>{model.state}</td>
                <td class="number">
                  {model.answers} <span class="small">answers</span>
                </td>
                <td>
                  <span class="small">added</span>{" "}
                  <Moment at={model.added} />
                </td>
                <td>
                  {model.state !== "active" && (
                    <div class="row">
                      <button type="button" onClick={() => begin(model)} aria-label={`Try on the last ${TRIED_ON}: ${model.name}`}>
                        Try on the last {TRIED_ON}
                      </button>
                      <button type="button" onClick={() => show(model)} aria-label={`What changes with ${model.name}`}>
                        What changes
                      </button>
                      <button type="button" onClick={() => change(model)} aria-label={`Switch to it: ${model.name}`}>
                        Switch to it
                      </button>
                    </div>
                  )}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {trial && <Tried trial={trial} name={rows.find((model) => model.id === trial.model)?.name ?? ""} />}
      <div class="row">
        <label class="button">
          Add a model (.callus)
          <input class="hidden-input" type="file" accept=".callus" onChange={put} />
        </label>
        {share !== null && <progress max="1" value={share} aria-label="sending the model" />}
      </div>
      <Failed what={failed} />
    </section>
  );
}

function Tried({ trial, name }: { trial: Trial; name: string }) {
  return (
    <div role="status">
      <p>
        {name} on {trial.answered} radiographs: {trial.changed} answers would change
        {trial.waiting > 0 && `; ${trial.waiting} wait still`}
        {trial.failed > 0 && `; ${trial.failed} failed`}.
      </p>
      <ul>
        {trial.changes.slice(0, 50).map((one) => (
          <li key={one.image}>
            <a href={`/studies/${one.study}`} onClick={follow}>
              image {one.image}
            </a>
            : {LEVEL_TEXT[one.from.level]} ({one.from.probability.toFixed(2)}) to {LEVEL_TEXT[one.to.level]} (
            {one.to.probability.toFixed(2)})
          </li>
        ))}
      </ul>
    </div>
  );
}
