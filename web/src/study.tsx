/** One study: its views with each one's answer and the exam's, the viewer, verdicts. */

import { lazy, Suspense } from "preact/compat";
import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { API, type Refused, get, send } from "./api";
import { type Drafts, useDrafts } from "./drafts";
import { Keys } from "./keys";
import { LevelMark, Moment, Probability, day, person } from "./level";
import { useLive } from "./live";
import { Printed, printWithPictures } from "./printed";
import { follow, go, useUnsaved } from "./route";
import { type ImageWhole, type Me, type Study, reaches } from "./types";
import { AddPictures } from "./upload";
import { Verdicts } from "./verdicts";

const NOT_MADE = "Its report and pictures could not be made; the administrator's page tells why.";
export const THUMBNAIL = 128; // pixels: two for each that it is drawn with, for fine screens

const Viewer = lazy(() => import("./viewer").then((loaded) => ({ default: loaded.Viewer })));

export function StudyPage({ me, id }: { me: Me; id: number }) {
  const [study, setStudy] = useState<Study | null>(null);
  const [failed, setFailed] = useState("");
  const [chosen, setChosen] = useState<number | null>(null);
  const [drawing, setDrawing] = useState(false);
  const drafts = useDrafts();
  useUnsaved(drafts.begun() ? "What you drew or wrote is not kept. Leave without it?" : null);
  const keys = useRef<HTMLDialogElement>(null);

  const load = useCallback(
    async (byItself = false) => {
      try {
        const found = await get<Study>(`/studies/${id}`, byItself);
        setStudy(found);
        setChosen((old) => old ?? worst(found.images)?.id ?? null); // which stays, whatever is answered meanwhile
        setFailed("");
      } catch (error) {
        // While the service starts anew what is shown stays, with what was drawn and written; a study that is gone does not.
        const gone = (error as Refused).status === 404;
        if (gone) drafts.drop();
        if (!byItself || gone) setFailed((error as Error).message);
      }
    },
    [id, drafts.drop],
  );
  useEffect(() => void load(), [load]);
  useLive({ study: id, look: () => void load(true) });

  const choose = (image: number) => {
    setChosen(image);
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
        <StudyHead me={me} study={study} failed={setFailed} given={() => void load(true)} />
        {study.images.length > 1 && <Strip images={study.images} current={chosen} drafts={drafts} choose={choose} />}
        {image && (
          <div class="desk">
            <Suspense fallback={<p class="notice">loading the viewer…</p>}>
              <Viewer
                image={image}
                drawing={drawing}
                setDrawing={reaches(me, "radiologist") ? setDrawing : undefined}
                drawn={drafts.of(image.id).boxes}
                draw={(boxes) => drafts.change(image.id, { boxes })}
                step={step}
                askKeys={() => keys.current?.showModal()}
              />
            </Suspense>
            <div class="side">
              <AnswerCard
                key={image.id}
                me={me}
                image={image}
                stuck={study.jobs.some((job) => job.kind === "identify" && job.image === image.id)}
                given={() => void load(true)}
              />
              <Verdicts
                key={image.id}
                me={me}
                image={image}
                drawing={drawing}
                setDrawing={setDrawing}
                drafts={drafts}
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

interface HeadProps {
  me: Me;
  study: Study;
  failed: (what: string) => void;
  given: () => void;
}

function StudyHead({ me, study, failed, given }: HeadProps) {
  const { patient } = study;
  const remove = async () => {
    if (!confirm("Delete this study with its images, answers, verdicts and files? This cannot be undone.")) return;
    try {
      await send("DELETE", `/studies/${study.id}`);
      go("/", true);
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
      <AddPictures study={study.id} done={given} />
      <button type="button" onClick={() => void printWithPictures()}>
        Print
      </button>
      {reaches(me, "administrator") && (
        <>
          <a href={`${API}/studies/${study.id}/deidentified.zip`} download>De-identified copy</a>
          <button type="button" onClick={remove}>
            Delete
          </button>
        </>
      )}
    </header>
  );
}

interface StripProps {
  images: ImageWhole[];
  current: number | null;
  drafts: Drafts;
  choose: (image: number) => void;
}

/** The exam's views beside each other, each with its answer. */
function Strip({ images, current, drafts, choose }: StripProps) {
  return (
    <ul class="strip" aria-label="images of this exam">
      {images.map((image, at) => (
        <li key={image.id}>
          <button type="button" aria-current={image.id === current} onClick={() => choose(image.id)}>
            <img src={pictureOf(image, THUMBNAIL)} alt="" loading="lazy" />
            <span>
              {titleOf(image) || `image ${at + 1}`}
              {drafts.begun(image.id) && <span class="caution"> verdict not kept</span>}
              <br />
              <LevelMark level={levelOf(image)} /> <Probability value={image.answer?.probability ?? null} />
            </span>
          </button>
        </li>
      ))}
    </ul>
  );
}

/** Whether the files of an image's answer are there; the answer comes before them. */
export function isMade(image: ImageWhole): boolean {
  return image.answer !== null && image.answer.results.length > 0;
}

/** The overlay where there is one, else the radiograph; as wide as it is, or at most so many pixels. */
export function pictureOf(image: ImageWhole, width?: number): string {
  const kind = image.answer?.results.includes("overlay") ? "overlay" : "frame";
  return `${API}/images/${image.id}/${kind}.png${width ? `?width=${width}` : ""}`;
}

export function titleOf(image: ImageWhole): string {
  return [image.body_part.toLowerCase(), image.side, image.view].filter(Boolean).join(" ");
}

export function levelOf(image: ImageWhole) {
  return image.answer?.level ?? (image.error ? "unanswered" : "waiting");
}

interface CardProps {
  me: Me;
  image: ImageWhole;
  stuck: boolean; // what was to be made of its answer is not
  given: () => void;
}

function AnswerCard({ me, image, stuck, given }: CardProps) {
  const answer = image.answer;
  const [failed, setFailed] = useState("");
  const again = () =>
    send("POST", `/images/${image.id}/retry`)
      .then(given)
      .catch((error) => setFailed(error.message));
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
      {image.error && (
        <p class="caution">
          {image.error}{" "}
          <button type="button" onClick={again}>
            Try again
          </button>
        </p>
      )}
      {failed && (
        <p class="error" role="alert">
          {failed}
        </p>
      )}
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
          {!isMade(image) && (
            <p class={stuck ? "caution" : "quiet"} role="status">
              {stuck ? NOT_MADE : "Its report and pictures are being made…"}
            </p>
          )}
        </>
      )}
      {reaches(me, "radiologist") && (
        <p class="files">
          <a href={`${API}/images/${image.id}/original`} download>original</a>
          {files
            .filter(([kind]) => answer?.results.includes(kind!))
            .map(([kind, file, text]) => (
              <a key={kind} href={`${API}/images/${image.id}/${file}`} download>
                {text}
              </a>
            ))}
        </p>
      )}
    </section>
  );
}
