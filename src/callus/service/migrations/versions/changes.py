"""What becomes of studies is kept for listeners; kills are counted apart; a trial's answers are told from others."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

# A model that had answered before it was tried has answers of both kinds: its jobs tell which is which.
_MARK_TRIED = """
UPDATE answers SET tried = (1 = 1) WHERE model_id IN (SELECT id FROM models WHERE state = 'trial') AND EXISTS (
    SELECT 1 FROM jobs WHERE jobs.kind = 'try' AND jobs.image_id = answers.image_id
    AND jobs.key = CAST(answers.image_id AS VARCHAR(32)) || ' ' || CAST(answers.model_id AS VARCHAR(32))
)
"""


def upgrade() -> None:
    """From 0002 to 0003."""
    op.create_table(
        "changes",
        sa.Column("id", _NUMBER, nullable=False),
        sa.Column("study", sa.BigInteger(), nullable=False),
        sa.Column("image", sa.BigInteger(), nullable=True),
        sa.Column("what", sa.String(length=16), nullable=False),
        sa.Column("after", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_changes_after", "changes", ["after"], unique=False)
    op.create_index("ix_changes_at", "changes", ["at"], unique=False)
    op.add_column("jobs", sa.Column("killed", sa.Integer(), nullable=False, server_default=sa.text("0")))
    op.add_column("answers", sa.Column("tried", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.execute(_MARK_TRIED)
