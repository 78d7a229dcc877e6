"""The database's tables. Times are UTC; what names a patient stands in ``studies`` and nowhere else."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect
    from sqlalchemy.engine.default import DefaultExecutionContext

WAITING, UNANSWERED = 0, 2
RANK: Final = {"fracture": 4, "doubt": 3, "none": 1}
"""The worklist's order. What waits has no answer yet; what is unanswered gets none, so it stands before "none"."""
_LONGEST_WORDS: Final = 1024  # "İ" is two small letters, so there may be more than the names have


def now() -> datetime:
    """The present, in UTC."""
    return datetime.now(UTC)


class Moment(TypeDecorator[datetime]):
    """A point in time, in UTC. SQLite keeps no zone: it is taken off and put on again."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """To the database."""
        if value is None or dialect.name != "sqlite":
            return value
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """From the database."""
        return value if value is None or value.tzinfo else value.replace(tzinfo=UTC)


Number = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts up only what is called INTEGER


class Table(DeclarativeBase):
    """The base of all tables."""

    type_annotation_map = {datetime: Moment, dict[str, Any]: JSON, list[Any]: JSON}  # noqa: RUF012 - SQLAlchemy's name


def _words(context: DefaultExecutionContext) -> str:
    values = context.get_current_parameters()  # type: ignore[no-untyped-call]
    return search_words(*(str(values.get(key) or "") for key in ("accession", "patient_name", "patient_id")))


def search_words(accession: str, name: str, number: str) -> str:
    """What a study is found by, as :class:`Study` has it."""
    return f"{accession}\n{name}\t{number}".lower()[:_LONGEST_WORDS]


class Study(Table):
    """An exam: what the worklist shows a line of.

    Attributes:
        uid: Study Instance UID; made by the service where a picture came without one.
        rank: of the worst answer among its images, see :data:`RANK`.
        probability: the highest among its images.
        changed: when an image or an answer of it came last.
        words: what it is found by, in small letters: the accession number, a line's end, the patient's name and number.
    """

    __tablename__ = "studies"
    __table_args__ = (
        Index("worklist", "rank", "changed", "id"),
        Index("by_change", "changed"),
        Index("ix_studies_received", "received"),
        Index("words_in_order", "rank", "changed", "id", "words"),
    )

    id: Mapped[int] = mapped_column(Number, primary_key=True)
    uid: Mapped[str] = mapped_column(String(64), unique=True)
    patient_id: Mapped[str] = mapped_column(String(256), default="")
    patient_name: Mapped[str] = mapped_column(String(512), default="")
    birth_date: Mapped[str] = mapped_column(String(16), default="")
    sex: Mapped[str] = mapped_column(String(16), default="")
    date: Mapped[str] = mapped_column(String(16), default="")
    accession: Mapped[str] = mapped_column(String(64), default="")
    description: Mapped[str] = mapped_column(String(256), default="")
    images_count: Mapped[int] = mapped_column(default=0)
    rank: Mapped[int] = mapped_column(default=WAITING)
    probability: Mapped[float | None] = mapped_column(Float)
    received: Mapped[datetime] = mapped_column(default=now)
    changed: Mapped[datetime] = mapped_column(default=now)
    words: Mapped[str] = mapped_column(String(_LONGEST_WORDS), default=_words)
    images: Mapped[list[Image]] = relationship(
        back_populates="study", cascade="all, delete-orphan", order_by="Image.id"
    )


class Image(Table):
    """A radiograph that came.

    Attributes:
        uid: SOP Instance UID; made by the service for a picture that is no DICOM.
        sha256: of its bytes, by which they are found on the disk.
        source: "dicom", "stow", "upload", "pull".
        sender: the AE title or the account that sent it.
        spacing: millimetres between rows and between columns, where they are known.
        error: why there is no answer; "" where there is one or will be.
    """

    __tablename__ = "images"

    id: Mapped[int] = mapped_column(Number, primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id", ondelete="CASCADE"), index=True)
    uid: Mapped[str] = mapped_column(String(64), unique=True)
    series_uid: Mapped[str] = mapped_column(String(64), default="")
    sop_class: Mapped[str] = mapped_column(String(64), default="")
    sha256: Mapped[str] = mapped_column(String(64), index=True)
    bytes: Mapped[int] = mapped_column(BigInteger)
    name: Mapped[str] = mapped_column(String(256), default="")
    source: Mapped[str] = mapped_column(String(16))
    sender: Mapped[str] = mapped_column(String(128), default="")
    modality: Mapped[str] = mapped_column(String(16), default="")
    body_part: Mapped[str] = mapped_column(String(64), default="")
    side: Mapped[str] = mapped_column(String(16), default="")
    view: Mapped[str] = mapped_column(String(64), default="")
    height: Mapped[int | None]
    width: Mapped[int | None]
    spacing: Mapped[list[Any] | None]
    error: Mapped[str] = mapped_column(String(512), default="")
    received: Mapped[datetime] = mapped_column(default=now, index=True)
    study: Mapped[Study] = relationship(back_populates="images")
    answers: Mapped[list[Answer]] = relationship(back_populates="image", cascade="all, delete-orphan")
    verdicts: Mapped[list[Verdict]] = relationship(
        back_populates="image", cascade="all, delete-orphan", order_by="Verdict.id"
    )


class Model(Table):
    """A bundle that answers, is tried, or answered once.

    Attributes:
        digest: SHA-256 of the bundle.
        path: its folder below the service's data.
        state: "active" (one at most), "trial" (it never was active) or "retired".
    """

    __tablename__ = "models"

    id: Mapped[int] = mapped_column(Number, primary_key=True)
    name: Mapped[str] = mapped_column(String(256))
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    path: Mapped[str] = mapped_column(String(512))
    state: Mapped[str] = mapped_column(String(16), default="retired")
    added: Mapped[datetime] = mapped_column(default=now)


class Answer(Table):
    """What a model says of an image: exactly one of each pair.

    Attributes:
        boxes: as ``callus.metrics.boxes.Box.as_dict`` has them, in pixels of the image.
        map: SHA-256 of the heat map's file.
        results: SHA-256 of the files that were made of it, by kind: "overlay", "sr", "sc", "pr", "fhir"; empty until
            they are.
        seconds: that it took, reading included.
        tried: it was made in a trial, and does not count; switching to its model has it count from then on.
    """

    __tablename__ = "answers"
    __table_args__ = (UniqueConstraint("image_id", "model_id"),)

    id: Mapped[int] = mapped_column(Number, primary_key=True)
    image_id: Mapped[int] = mapped_column(ForeignKey("images.id", ondelete="CASCADE"))
    model_id: Mapped[int] = mapped_column(ForeignKey("models.id"), index=True)
    probability: Mapped[float] = mapped_column(Float)
    level: Mapped[str] = mapped_column(String(16))
    boxes: Mapped[list[Any]]
    cautions: Mapped[list[Any]]
    engine: Mapped[str] = mapped_column(String(64))
    map: Mapped[str] = mapped_column(String(64), default="")
    results: Mapped[dict[str, Any]]
    seconds: Mapped[float] = mapped_column(Float, default=0.0)
    tried: Mapped[bool] = mapped_column(Boolean, default=False)
    made: Mapped[datetime] = mapped_column(default=now)
    image: Mapped[Image] = relationship(back_populates="answers")
    model: Mapped[Model] = relationship()


class Job(Table):
    """Work that outlives a crash: taken with a lease, done once.

    Attributes:
        kind: "identify", "try", "deliver" or "pull".
        key: what it is about; with ``kind`` it is unique, so the same work is never there twice.
        image_id: the image, where there is one.
        about: more, by kind.
        state: "waiting", "taken", "done", "stuck" (given up; somebody has to look) or "dropped" (somebody has looked,
            and it is not to be done).
        attempts: how often it was taken, and neither given back nor killed.
        killed: how often in a row the service was killed while it was done.
        due: not to be taken before.
        lease: while taken, until when; afterwards it is free again.
        holder: who took it.
        error: why it failed last.
    """

    __tablename__ = "jobs"
    __table_args__ = (UniqueConstraint("kind", "key"), Index("next_job", "kind", "state", "due"))

    id: Mapped[int] = mapped_column(Number, primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    key: Mapped[str] = mapped_column(String(256))
    image_id: Mapped[int | None] = mapped_column(ForeignKey("images.id", ondelete="CASCADE"), index=True)
    about: Mapped[dict[str, Any]] = mapped_column(default=dict)
    state: Mapped[str] = mapped_column(String(16), default="waiting")
    attempts: Mapped[int] = mapped_column(default=0)
    killed: Mapped[int] = mapped_column(default=0)
    due: Mapped[datetime] = mapped_column(default=now)
    lease: Mapped[datetime | None]
    holder: Mapped[str] = mapped_column(String(64), default="")
    error: Mapped[str] = mapped_column(String(512), default="")
    made: Mapped[datetime] = mapped_column(default=now)
    finished: Mapped[datetime | None]


class Change(Table):
    """What became of a study, for listeners who were away; it outlives the study.

    Attributes:
        what: "arrived", "unanswered", "waiting", "made" or "deleted".
        after: the newest answer's number at that time: the place among the findings.
    """

    __tablename__ = "changes"

    id: Mapped[int] = mapped_column(Number, primary_key=True)
    study: Mapped[int] = mapped_column(BigInteger)
    image: Mapped[int | None] = mapped_column(BigInteger)
    what: Mapped[str] = mapped_column(String(16))
    after: Mapped[int] = mapped_column(BigInteger, index=True)
    at: Mapped[datetime] = mapped_column(default=now, index=True)


class Pair(Table):
    """Which data folder goes with the database, by the name that both keep: one row at most."""

    __tablename__ = "pair"

    id: Mapped[int] = mapped_column(Number, primary_key=True)
    name: Mapped[str] = mapped_column(String(32))


class User(Table):
    """A person's account.

    Attributes:
        password: argon2id; "" for those who log in elsewhere or have yet to choose one.
        role: "reader", "radiologist" or "administrator".
        subject: at the identity provider, "issuer subject"; None for local accounts.
    """

    __tablename__ = "users"

    id: Mapped[int] = mapped_column(Number, primary_key=True)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    password: Mapped[str] = mapped_column(String(256), default="")
    role: Mapped[str] = mapped_column(String(16))
    subject: Mapped[str | None] = mapped_column(String(512), unique=True)
    disabled: Mapped[bool] = mapped_column(Boolean, default=False)
    made: Mapped[datetime] = mapped_column(default=now)


class Session(Table):
    """A login.

    Attributes:
        digest: SHA-256 of the cookie's secret; the secret itself is kept nowhere.
        csrf: the token that changing requests have to bring.
    """

    __tablename__ = "sessions"

    id: Mapped[int] = mapped_column(Number, primary_key=True)
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    csrf: Mapped[str] = mapped_column(String(64))
    made: Mapped[datetime] = mapped_column(default=now)
    used: Mapped[datetime] = mapped_column(default=now)
    ends: Mapped[datetime]
    user: Mapped[User] = relationship()


class Token(Table):
    """A program's key to the API.

    Attributes:
        digest: SHA-256 of the secret, which is shown once and kept nowhere.
        scopes: what it may do: "read", "send", "verdict", "administer".
    """

    __tablename__ = "tokens"

    id: Mapped[int] = mapped_column(Number, primary_key=True)
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(String(64))
    scopes: Mapped[list[Any]]
    made: Mapped[datetime] = mapped_column(default=now)
    used: Mapped[datetime | None]
    ends: Mapped[datetime | None]
    revoked: Mapped[datetime | None]
    user: Mapped[User] = relationship()


class Once(Table):
    """A secret that works once: the link that makes the administrator, an invitation.

    Attributes:
        digest: SHA-256 of the secret.
        role: of the account that it makes.
    """

    __tablename__ = "once"

    id: Mapped[int] = mapped_column(Number, primary_key=True)
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    role: Mapped[str] = mapped_column(String(16))
    ends: Mapped[datetime]


class Reset(Table):
    """A secret by which an account's owner chooses another password, once; its SHA-256."""

    __tablename__ = "resets"

    id: Mapped[int] = mapped_column(Number, primary_key=True)
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    ends: Mapped[datetime]


class Verdict(Table):
    """What a reader says of an image. Verdicts are added, never changed: a reader's last one counts.

    Attributes:
        agrees: with the answer.
        label: 1 where the reader sees a fracture, 0 where not, None where they do not say.
        boxes: the true ones, ``[{"x", "y", "width", "height"}, …]`` in pixels of the image.
        answer_id: the answer that was looked at.
    """

    __tablename__ = "verdicts"

    id: Mapped[int] = mapped_column(Number, primary_key=True)
    image_id: Mapped[int] = mapped_column(ForeignKey("images.id", ondelete="CASCADE"), index=True)
    answer_id: Mapped[int | None] = mapped_column(ForeignKey("answers.id", ondelete="SET NULL"))
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    agrees: Mapped[bool | None]
    label: Mapped[int | None]
    boxes: Mapped[list[Any]] = mapped_column(default=list)
    comment: Mapped[str] = mapped_column(Text, default="")
    made: Mapped[datetime] = mapped_column(default=now)
    image: Mapped[Image] = relationship(back_populates="verdicts")
    user: Mapped[User] = relationship()


class Entry(Table):
    """A line of the audit log: who saw, sent or changed what, and when. The database refuses to change or delete it.

    Attributes:
        who: the account, the AE title, or "service".
        did: one word, such as "saw", "sent", "switched".
        what: what it was done to, by the service's own numbers: nothing that names a patient.
    """

    __tablename__ = "audit"

    id: Mapped[int] = mapped_column(Number, primary_key=True)
    at: Mapped[datetime] = mapped_column(default=now, index=True)
    who: Mapped[str] = mapped_column(String(128))
    address: Mapped[str] = mapped_column(String(64), default="")
    did: Mapped[str] = mapped_column(String(32))
    what: Mapped[str] = mapped_column(String(256), default="")
