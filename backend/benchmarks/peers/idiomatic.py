"""The service as FastAPI's and SQLModel's docs teach it: a session per request, ORM objects."""

import os
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Annotated, Literal, get_args
from uuid import UUID, uuid4

from fastapi import Depends, FastAPI, HTTPException
from pydantic import StringConstraints
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlmodel import Enum, Field, PrimaryKeyConstraint, SQLModel, Text, col, select
from sqlmodel.ext.asyncio.session import AsyncSession

engine = create_async_engine(
    os.environ["DATABASE_URL"].replace("postgresql://", "postgresql+asyncpg://"),
    pool_size=int(os.environ["POOL_SIZE"]),
    max_overflow=0,
    pool_pre_ping=True,
)
sessions = async_sessionmaker(engine, class_=AsyncSession, expire_on_commit=False)


def now() -> datetime:
    return datetime.now(UTC)


Priority = Literal["low", "medium", "high", "urgent"]
Tag = Annotated[str, StringConstraints(min_length=1, max_length=50)]


class TaskBase(SQLModel):
    title: str = Field(min_length=1, max_length=500)
    description: str | None = Field(default=None, max_length=5000, sa_type=Text)
    completed: bool = False
    priority: Priority = Field(
        default="medium", sa_type=Enum(*get_args(Priority), name="task_priority")
    )
    due_date: datetime | None = None
    tags: list[Tag] = Field(default=[], max_length=20, sa_type=ARRAY(Text))


class Task(TaskBase, table=True):
    __tablename__ = "tasks"
    __table_args__ = (PrimaryKeyConstraint("user_id", "id"),)

    id: UUID = Field(default_factory=uuid4)
    user_id: str = Field(max_length=255)
    created_at: datetime = Field(default_factory=now)
    updated_at: datetime = Field(default_factory=now)


class TaskCreate(TaskBase):
    pass


class TaskUpdate(SQLModel):
    title: str | None = Field(default=None, min_length=1, max_length=500)
    description: str | None = Field(default=None, max_length=5000)
    completed: bool | None = None
    priority: Priority | None = None
    due_date: datetime | None = None
    tags: list[Tag] | None = Field(default=None, max_length=20)


class TaskPublic(TaskBase):
    id: UUID
    user_id: str
    created_at: datetime
    updated_at: datetime


async def get_session() -> AsyncIterator[AsyncSession]:
    async with sessions() as session:
        yield session


Session = Annotated[AsyncSession, Depends(get_session)]
app = FastAPI()


async def owned(session: AsyncSession, user_id: str, task_id: UUID) -> Task:
    statement = select(Task).where(Task.user_id == user_id, Task.id == task_id)
    task = (await session.exec(statement)).first()
    if task is None:
        raise HTTPException(404, "Task not found")
    return task


async def saved(session: AsyncSession, task: Task) -> Task:
    session.add(task)
    await session.commit()
    await session.refresh(task)
    return task


@app.get("/api/{user_id}/tasks", response_model=list[TaskPublic])
async def list_tasks(session: Session, user_id: str) -> Sequence[Task]:
    statement = select(Task).where(Task.user_id == user_id).order_by(col(Task.created_at))
    return (await session.exec(statement)).all()


@app.post("/api/{user_id}/tasks", response_model=TaskPublic, status_code=201)
async def create_task(session: Session, user_id: str, task: TaskCreate) -> Task:
    return await saved(session, Task.model_validate(task, update={"user_id": user_id}))


@app.get("/api/{user_id}/tasks/{task_id}", response_model=TaskPublic)
async def get_task(session: Session, user_id: str, task_id: UUID) -> Task:
    return await owned(session, user_id, task_id)


@app.put("/api/{user_id}/tasks/{task_id}", response_model=TaskPublic)
async def update_task(session: Session, user_id: str, task_id: UUID, changes: TaskUpdate) -> Task:
    task = await owned(session, user_id, task_id)
    task.sqlmodel_update(changes.model_dump(exclude_unset=True) | {"updated_at": now()})
    return await saved(session, task)


@app.delete("/api/{user_id}/tasks/{task_id}")
async def delete_task(session: Session, user_id: str, task_id: UUID) -> dict[str, str]:
    await session.delete(await owned(session, user_id, task_id))
    await session.commit()
    return {"message": "Task deleted successfully"}


@app.patch("/api/{user_id}/tasks/{task_id}/complete", response_model=TaskPublic)
async def toggle_task(session: Session, user_id: str, task_id: UUID) -> Task:
    task = await owned(session, user_id, task_id)
    task.completed = not task.completed
    task.updated_at = now()
    return await saved(session, task)
