/** A study on paper: only printers see it, and only for them are its pictures loaded. */

import { LevelMark, Moment, Probability, day, person } from "./level";
import { isMade, levelOf, pictureOf, titleOf } from "./study";
import type { Study } from "./types";

/** Print once the pictures are there. Where the browser's own menu prints, it waits for those that are lazy by itself, but
 * not for any that a listener has begun to load. */
export async function printWithPictures(): Promise<void> {
  const pictures = [...document.querySelectorAll<HTMLImageElement>(".printed img")];
  for (const picture of pictures) picture.loading = "eager";
  await Promise.all(pictures.map((picture) => picture.decode().catch(() => {}))); // one that is missing costs only itself
  print();
}

export function Printed({ study }: { study: Study }) {
  const { patient } = study;
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
          <img loading="lazy" src={pictureOf(image)} alt="" />
          <figcaption>
            {titleOf(image) || `image ${at + 1}`}: <LevelMark level={levelOf(image)} />{" "}
            <Probability value={image.answer?.probability ?? null} />
            {image.answer && !isMade(image) && <p>The picture is the radiograph alone: the one with the finding is not made yet.</p>}
            {image.answer?.cautions.map((caution) => <p key={caution}>Caution: {caution}</p>)}
            {image.verdicts.map((verdict) => (
              <p key={verdict.id}>
                {verdict.by}: {verdict.agrees === null ? "" : verdict.agrees ? "agrees" : "disagrees"} {verdict.comment}{" "}
                (<Moment at={verdict.made} />)
              </p>
            ))}
          </figcaption>
        </figure>
      ))}
      <p>Research and education, not a medical device. What callus does not see may still be there.</p>
    </article>
  );
}
