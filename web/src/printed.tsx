/** A study on paper: only printers see it, and only for them are its whole pictures loaded. */

import { useEffect } from "preact/hooks";
import { LevelMark, Moment, Probability, day, person } from "./level";
import { THUMBNAIL, isMade, levelOf, pictureOf, titleOf } from "./study";
import type { Study } from "./types";
import { wordsOf } from "./verdicts";

/** Print once the whole pictures are there. The browser's own menu waits for none (Chromium 150 does not even load those that
 * are lazy): it prints the small ones, which the page has already. */
export async function printWithPictures(): Promise<void> {
  const pictures = [...document.querySelectorAll<HTMLImageElement>(".printed .whole")];
  for (const picture of pictures) picture.loading = "eager";
  await Promise.all(pictures.map((picture) => picture.decode().then(() => shown(picture), () => {}))); // a missing one costs only itself
  print();
}

/** Print a whole picture instead of its small one. */
function shown(whole: HTMLImageElement): void {
  whole.parentElement?.classList.add("loaded");
}

export function Printed({ study }: { study: Study }) {
  const { patient } = study;
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "p" && !event.shiftKey && !event.altKey) {
        event.preventDefault();
        void printWithPictures();
      }
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, []);
  return (
    <article class="printed" aria-hidden="true">
      <h1>callus: {study.accession || `study ${study.id}`}</h1>
      <p>
        {[patient && person(patient.name), patient?.id, patient && day(patient.birth_date), day(study.date)].filter(Boolean).join(" · ")}
      </p>
      <p>
        Whole exam: <LevelMark level={study.level} /> probability <Probability value={study.probability} />
      </p>
      {study.images.map((image, at) => (
        <figure key={image.id}>
          <img
            class="whole"
            loading="lazy"
            src={pictureOf(image)}
            alt=""
            onLoad={(event) => shown(event.currentTarget)}
          />
          <img class="preview" src={pictureOf(image, THUMBNAIL)} alt="" />
          <figcaption>
            <p class="preview">This picture is a small one, without detail: the page's Print button prints the whole one.</p>
            {titleOf(image) || `image ${at + 1}`}: <LevelMark level={levelOf(image)} />{" "}
            <Probability value={image.answer?.probability ?? null} />
            {image.answer && !isMade(image) && <p>The picture is the radiograph alone: the one with the finding is not made yet.</p>}
            {image.answer?.cautions.map((caution) => <p key={caution}>Caution: {caution}</p>)}
            {image.verdicts.map((verdict) => (
              <p key={verdict.id}>
                {verdict.by}: {[wordsOf(verdict), verdict.comment].filter(Boolean).join(". ")} (<Moment at={verdict.made} />)
              </p>
            ))}
          </figcaption>
        </figure>
      ))}
      <p>Research and education, not a medical device. What callus does not see may still be there.</p>
    </article>
  );
}
