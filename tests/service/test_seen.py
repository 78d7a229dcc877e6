"""What people look at stands in the audit log: not what they searched for."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from clinic import ON_SQLITE, Clinic, radiograph

from callus.service import seen
from callus.service.access import UNATTENDED
from callus.service.tables import Answer, Entry


def test_the_audit_log_tells_who_listed_searched_and_loaded(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    (taken,) = clinic.sent(radiograph())
    image = f"/images/{taken['image']}"
    clinic.until(lambda: clinic.rows(Answer)[0].results)
    before = len(clinic.rows(Entry))

    def told(*did: str) -> list[tuple[str, str]]:
        return [(entry.did, entry.what) for entry in clinic.rows(Entry)[before:] if entry.did in did]

    for _ in range(2):
        clinic.radiologist.get("/studies", params={"level": "fracture"})
        clinic.radiologist.post("/studies/search", {"text": " "})  # searches for nothing
    assert told("listed", "searched") == [("listed", "studies")]
    clinic.reader.get("/studies")
    monkeypatch.setattr(seen, "_ONE_LOOK", 0.0)  # as 15 minutes later
    clinic.radiologist.get("/studies")
    assert told("listed", "searched") == [("listed", "studies")] * 3
    monkeypatch.undo()

    found = [clinic.radiologist.post("/studies/search", {"text": "doe"}).json() for _ in range(2)]
    assert [line["id"] for page in found for line in page["studies"]] == [taken["study"]] * 2
    clinic.radiologist.post("/studies/search", {"text": "doe"}, headers={UNATTENDED: "1"})  # an open page, by itself
    assert told("searched") == [("searched", "studies")] * 2
    assert "doe" not in str([(entry.who, entry.what) for entry in clinic.rows(Entry)]).lower()

    kinds = {"original": "original", "sr.dcm": "sr", "sc.dcm": "sc", "pr.dcm": "pr", "report.fhir.json": "fhir"}
    for name in kinds:
        assert clinic.radiologist.get(f"{image}/{name}").status_code == 200
    clinic.radiologist.get(f"{image}/original")
    assert clinic.reader.get(f"{image}/sr.dcm").status_code == 403
    loaded = [("loaded", f"image {taken['image']} {kind}") for kind in (*kinds.values(), "original")]
    assert told("loaded") == loaded


@ON_SQLITE
def test_what_could_not_be_written_down_is_not_shown_and_the_next_look_is_written(clinic: Clinic) -> None:
    (taken,) = clinic.sent(radiograph())
    looks = {
        "/studies": ("listed", "studies"),
        f"/images/{taken['image']}/frame.png": ("saw", f"study {taken['study']}"),
    }
    with clinic.parts.database.writing() as session:
        session.execute(sa.text("CREATE TRIGGER full BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'full'); END"))
    for path in looks:
        for _ in range(2):
            assert clinic.reader.get(path).status_code == 500
    with clinic.parts.database.writing() as session:
        session.execute(sa.text("DROP TRIGGER full"))
    for path in looks:
        assert clinic.reader.get(path).status_code == 200
    lines = clinic.rows(Entry, Entry.who == "the reader")
    assert [(entry.did, entry.what) for entry in lines] == list(looks.values())
