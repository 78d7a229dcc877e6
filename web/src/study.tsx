/** One study: its views with each one's answer and the exam's, the viewer, verdicts. */

import { lazy, Suspense } from "preact/compat";
import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { API, get, send } from "./api";
import { Keys } from "./keys";
import { LevelMark, Moment, Probability, day, person } from "./level";
import { useFindings } from "./live";
import { Printed } from "./printed";
import { follow, go } from "./route";
import { type Box, type ImageWhole, type Me, type Study, reaches } from "./types";
import { Verdicts } from "./verdicts";

const Viewer = lazy(() => import("./viewer").then((loaded) => ({ default: loaded.Viewer })));

export function StudyPage({ me, id }: { me: Me; id: number }) {
  const [study, setStudy] = useState<Study | null>(null);
  const [failed, setFailed] = useState("");
  const [chosen, setChosen] = useState<number | null>(null);
  const [drawing, setDrawing] = useState(false);
  const [drawn, setDrawn] = useState<Box[]>([]);
  const keys = useRef<HTMLDialogElement>(null);

  const load = useCallback(async () => {
    try {
      const found = await get<Study>(`/studies/${id}`);
      setStudy(found);
      setChosen((old) => old ?? worst(found.images)?.id ?? null); // which stays, whatever is answered meanwhile
      setFailed("");
    } catch (error) {
      setFailed((error as Error).message);
    }
  }, [id]);
  useEffect(() => void load(), [load]);
  useFindings((finding) => finding.study === id && void load());

  const choose = (image: number) => {
    setChosen(image);
    setDrawn([]);
    setDrawing(false);
  };
  if (failed)
    return (
      <p class="notice error" role="alert">
        {failed}{" "}
        <a href="/" onClick={follow}>
          Worklist
        </a>
      </p>
    );
  if (!study) return <p class="notice">loading…</p>;
  const image = study.images.find((one) => one.id === chosen);
  const step = (by: number) => {
    const at = study.images.indexOf(image!);
    const next = study.images[(at + by + study.images.length) % study.images.length];
    if (next) choose(next.id);
  };
  return (
    <>
      <article class="study">
        <StudyHead me={me} study={study} failed={setFailed} />
        {study.images.length > 1 && <Strip images={study.images} current={chosen} choose={choose} />}
        {image && (
          <div class="desk">
            <Suspense fallback={<p class="notice">loading the viewer…</p>}>
              <Viewer
                image={image}
                drawing={drawing}
                drawn={drawn}
                draw={setDrawn}
                step={step}
                askKeys={() => keys.current?.showModal()}
              />
            </Suspense>
            <div class="side">
              <AnswerCard me={me} image={image} />
              <Verdicts
                key={image.id}
                me={me}
                image={image}
                drawing={drawing}
                setDrawing={setDrawing}
                drawn={drawn}
                setDrawn={setDrawn}
                given={load}
              />
            </div>
          </div>
        )}
        <Keys dialog={keys} />
      </article>
      <Printed study={study} />
    </>
  );
}

/** What to look at first: the image with the highest probability. */
function worst(images: ImageWhole[]): ImageWhole | undefined {
  return [...images].sort((one, other) => (other.answer?.probability ?? -1) - (one.answer?.probability ?? -1))[0];
}

function StudyHead({ me, study, failed }: { me: Me; study: Study; failed: (what: string) => void }) {
  const { patient } = study;
  const remove = async () => {
    if (!confirm("Delete this study with its images, answers, verdicts and files? This cannot be undone.")) return;
    try {
      await send("DELETE", `/studies/${study.id}`);
      go("/");
    } catch (error) {
      failed((error as Error).message);
    }
  };
  const stuck = study.jobs.length;
  return (
    <header class="study-head">
      <div>
        <h1>{study.accession || `Study ${study.id}`}</h1>
        <p class="quiet">
          {[patient && person(patient.name), patient?.id, patient && day(patient.birth_date), patient?.sex, day(study.date)]
            .filter(Boolean)
            .join(" · ")}
        </p>
      </div>
      <div class="whole">
        <span class="quiet">whole exam</span> <LevelMark level={study.level} /> <Probability value={study.probability} />
      </div>
      {stuck > 0 && <p class="caution">{`${stuck} result${stuck === 1 ? " is" : "s are"} stuck; the administrator's page tells why.`}</p>}
      <button type="button" onClick={() => print()}>
        Print
      </button>
      {reaches(me, "administrator") && (
        <>
          <a href={`${API}/studies/${study.id}/deidentified.zip`}>De-identified copy</a>
          <button type="button" onClick={remove}>
            Delete
          </button>
        </>
      )}
    </header>
  );
}

/** The exam's views beside each other, each with its answer. */
function Strip({ images, current, choose }: { images: ImageWhole[]; current: number | null; choose: (image: number) => void }) {
  return (
    <ul class="strip" aria-label="images of this exam">
      {images.map((image, at) => (
        <li key={image.id}>
          <button type="button" aria-current={image.id === current} onClick={() => choose(image.id)}>
            <img src={pictureOf(image)} alt="" loading="lazy" />
            <span>
              {titleOf(image) || `image ${at + 1}`}
              <br />
              <LevelMark level={levelOf(image)} /> <Probability value={image.answer?.probability ?? null} />
            </span>
          </button>
        </li>
      ))}
    </ul>
  );
}

/** The overlay where there is one, else the radiograph. */
export function pictureOf(image: ImageWhole): string {
  return `${API}/images/${image.id}/${image.answer?.results.includes("overlay") ? "overlay" : "frame"}.png`;
}

export function titleOf(image: ImageWhole): string {
  return [image.body_part.toLowerCase(), image.side, image.view].filter(Boolean).join(" ");
}

export function levelOf(image: ImageWhole) {
  return image.answer?.level ?? (image.error ? "unanswered" : "waiting");
}

function AnswerCard({ me, image }: { me: Me; image: ImageWhole }) {
  const answer = image.answer;
  const files = [
    ["sr", "sr.dcm", "report (SR)"],
    ["sc", "sc.dcm", "picture (SC)"],
    ["pr", "pr.dcm", "boxes (GSPS)"],
    ["fhir", "report.fhir.json", "FHIR"],
  ];
  return (
    <section class="card" aria-labelledby="answer-title">
      <h2 id="answer-title">{titleOf(image) || "This image"}</h2>
      <p class="answer">
        <LevelMark level={levelOf(image)} />{" "}
        {answer && (
          <>
            probability <Probability value={answer.probability} />
          </>
        )}
      </p>
      {image.error && <p class="caution">{image.error}</p>}
      {answer && (
        <>
          {answer.cautions.map((caution) => (
            <p key={caution} class="caution">
              Caution: {caution}
            </p>
          ))}
          <p class="quiet">
            {answer.boxes.length
              ? `${answer.boxes.length} box${answer.boxes.length === 1 ? "" : "es"}, ${answer.level === "doubt" ? "dotted (doubt)" : "solid (fracture)"}`
              : "no box"}
            {" · "}model {answer.model.name}
            {!answer.model.active && " (not the active one)"}
            {" · "}
            <Moment at={answer.made} />
          </p>
        </>
      )}
      {reaches(me, "radiologist") && (
        <p class="files">
          <a href={`${API}/images/${image.id}/original`}>original</a>
          {files
            .filter(([kind]) => answer?.results.includes(kind!))
            .map(([kind, file, text]) => (
              <a key={kind} href={`${API}/images/${image.id}/${file}`}>
                {text}
              </a>
            ))}
        </p>
      )}
    </section>
  );
}
