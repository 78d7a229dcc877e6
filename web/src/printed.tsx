/** A study on paper: only printers see it. */

import { LevelMark, Moment, Probability, day, person } from "./level";
import { levelOf, pictureOf, titleOf } from "./study";
import type { Study } from "./types";

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
          <img src={pictureOf(image)} alt="" />
          <figcaption>
            {titleOf(image) || `image ${at + 1}`}: <LevelMark level={levelOf(image)} />{" "}
            <Probability value={image.answer?.probability ?? null} />
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
