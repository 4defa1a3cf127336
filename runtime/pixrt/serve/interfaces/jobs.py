"""Jobs: a picture of any task that is accepted now and fetched later; a client may go away meanwhile."""

import dataclasses
import json
import math
import time
from collections.abc import AsyncIterator, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response
from sse_starlette import EventSourceResponse, ServerSentEvent

from pixrt.options.schema import json_schema
from pixrt.options.tasks import TASK_OPTIONS
from pixrt.serve.interfaces import answers
from pixrt.serve.interfaces.bodies import read_fields
from pixrt.serve.interfaces.describing import FOLLOWED, JOB_BODY, JOB_MAKING, JOB_READING, READING, RESULT
from pixrt.serve.interfaces.openai import describe_model
from pixrt.serve.interfaces.orders import order_job
from pixrt.serve.interfaces.shapes import Accepted, ErrorBody, Job, JobList, JobResult, Links, ServerSchema, TaskInfo
from pixrt.serve.interfaces.wanted import JobFields
from pixrt.serve.problems import Problem
from pixrt.serve.service import Service
from pixrt.serve.tickets import Event, State, Ticket

PATH = "/v1/jobs"
MOST_LISTED = 1000  # at once: describing more would keep others waiting


def router(service: Service) -> APIRouter:
    """The routes under `/v1/jobs`, and `/v1/schema`."""
    routes = APIRouter(tags=["Jobs"])
    kept = service.options.result_seconds

    def find(id: str, request: Request) -> Ticket:
        return service.find(id, answers.client_of(request))

    @routes.post(
        PATH, status_code=202, response_model=Accepted, responses=JOB_MAKING, openapi_extra={"requestBody": JOB_BODY}
    )
    async def submit(request: Request) -> Response:
        """Ask for pictures of any task. They are made whether the client stays or not."""
        order = order_job(await read_fields(request, service.options), answers.shop_of(service))
        tickets = await answers.submit(service, order, request, keep=True)
        said, jobs = order.fields, [describe(ticket, kept) for ticket in tickets]
        answer = answers.respond(
            Accepted(jobs=jobs, user=said.user, safety_identifier=said.safety_identifier or said.user, **dict(jobs[0])),
            202,
        )
        answer.headers["location"] = jobs[0].links.self
        return answer

    @routes.get(PATH, response_model=JobList, responses=READING)
    async def jobs(request: Request) -> Response:
        """The caller's last 1,000 jobs, oldest first."""
        tickets = service.tickets(answers.client_of(request))[-MOST_LISTED:]
        return answers.respond(JobList(data=[describe(ticket, kept) for ticket in tickets]))

    @routes.get(f"{PATH}/{{id}}", response_model=Job, responses=JOB_READING)
    async def job(id: str, request: Request) -> Response:
        """A job as it stands."""
        return answers.respond(describe(find(id, request), kept))

    @routes.delete(f"{PATH}/{{id}}", response_model=Job, responses=JOB_READING)
    async def cancel(id: str, request: Request) -> Response:
        """Cancel a job: at once while it waits, within a step while it runs. One that has ended is forgotten."""
        ticket = find(id, request)
        if ticket.state.is_end:
            service.forget(ticket)
        ticket.cancel()
        return answers.respond(describe(ticket, kept))

    @routes.get(f"{PATH}/{{id}}/result", response_class=Response, responses=RESULT)
    async def result(id: str, request: Request) -> Response:
        """The picture itself."""
        return _result(find(id, request))

    @routes.get(
        f"{PATH}/{{id}}/events",
        response_class=Response,
        responses=FOLLOWED,
    )
    async def events(id: str, request: Request, last_event_id: Annotated[int, Header(ge=0, le=2**63)] = 0) -> Response:
        """What happened to a job after the last event that the client has, and what happens, until its end."""
        ticket = find(id, request)
        if ticket.state.is_end and not [event async for event in ticket.follow(last_event_id)]:
            return Response(status_code=204)  # a browser stops asking again
        return EventSourceResponse(_events(ticket, last_event_id, kept))

    @routes.get("/v1/schema", response_model=ServerSchema, responses=READING)
    async def schema() -> Response:
        """What may be asked of the server: its model, tasks, their options, LoRAs."""
        model = answers.model_of(service)
        return answers.respond(
            ServerSchema(
                model=describe_model(model),
                tasks={name: _task(name, model.schemas[name]) for name in model.tasks},
                request=json_schema(JobFields, "job", {}),
                loras=list(service.loras),
                result_seconds=kept,
                max_body_bytes=service.options.max_body_mib << 20,
            )
        )

    return routes


def describe(ticket: Ticket, kept: float) -> Job:
    """A job as clients see it; one that has ended is kept so many seconds."""
    path, problem = f"{PATH}/{ticket.id}", ticket.problem
    error = ErrorBody(**problem.body["error"]) if problem is not None and ticket.state is State.FAILED else None
    return Job(
        id=ticket.id,
        task=ticket.asked.options.task,
        prompt=ticket.asked.text,
        seed=answers.seed_of(ticket),
        state=ticket.state,
        place=ticket.place if ticket.state is State.QUEUED else 0,
        step=ticket.step,
        steps=ticket.steps,
        created=ticket.created,
        predicted_start=ticket.prediction.start,
        predicted_end=ticket.prediction.end,
        ended=ticket.ended,
        expires=None if ticket.ended is None else ticket.ended + kept,
        result=_described_result(ticket),
        error=error,
        links=Links(self=path, events=f"{path}/events", result=f"{path}/result"),
    )


def _described_result(ticket: Ticket) -> JobResult | None:
    result = ticket.result
    if result is None:
        return None
    return JobResult(media_type=result.media_type, bytes=len(result.data), **dict(answers.made(ticket, result)))


def _result(ticket: Ticket) -> Response:
    """The picture of a job. Raises Problem: 409 while there is none yet, 410 if there will be none, or its own."""
    if ticket.problem is not None and ticket.state is State.FAILED:
        raise dataclasses.replace(ticket.problem)  # its own would gather the frames of every time that it is raised
    if ticket.state is State.CANCELLED:
        raise Problem(410, "job_cancelled", f"The job {ticket.id} was cancelled. Ask for it again.")
    if ticket.result is None:
        seconds = max(1, math.ceil(ticket.prediction.end - time.time()))
        message = f"The job {ticket.id} is {ticket.state}, and expected to be done in {seconds} s. Ask again then."
        raise Problem(409, "job_not_done", message, retry_after=seconds)
    return Response(ticket.result.data, media_type=ticket.result.media_type)


async def _events(ticket: Ticket, after: int, kept: float) -> AsyncIterator[ServerSentEvent]:
    async for event in ticket.follow(after):
        yield ServerSentEvent(json.dumps(_data(ticket, event, kept)), event=event.name, id=str(event.id))


def _data(ticket: Ticket, event: Event, kept: float) -> Mapping[str, Any]:
    """An event as clients see it: previews with their picture, the last one with the job."""
    data = dict(event.data)
    if event.picture is not None:
        data |= {"b64_json": answers.encoded(event.picture), "media_type": "image/png"}
    if event.name in ("done", "failed", "cancelled"):
        data["job"] = describe(ticket, kept).model_dump(mode="json")
    return data


def _task(name: str, schema: Mapping[str, Any]) -> TaskInfo:
    kind = TASK_OPTIONS[name]
    return TaskInfo(needs=sorted(kind.needs), may_have=sorted(kind.may_have), options=dict(schema))
