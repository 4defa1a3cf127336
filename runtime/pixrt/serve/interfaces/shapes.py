"""The JSON of answers: what is sent is made of these, and the OpenAPI document is too.

Answers to OpenAI's clients have its SDK's keys, and more, which reach the user. Must not import numpy or Pillow.
"""

from typing import Any, Literal

from pydantic import BaseModel, Field

from pixrt.serve.tickets import OutputFormat, State

Quality = Literal["low", "medium", "high"]
Background = Literal["opaque", "auto"]
PartialType = Literal["image_edit.partial_image", "image_generation.partial_image"]
CompletedType = Literal["image_edit.completed", "image_generation.completed"]


class ErrorBody(BaseModel):
    """What is wrong, and what to do."""

    message: str = Field(description="The problem and its remedy, for people.")
    type: Literal["invalid_request_error", "rate_limit_error", "server_error"]
    param: str | None = Field(description="The field of the request that is at fault.")
    code: str = Field(description="One word for programs, such as unknown_parameter.")


class ErrorAnswer(BaseModel):
    """The body of every answer that is an error."""

    error: ErrorBody


class Made(BaseModel):
    """How a picture was made."""

    seed: int
    size: str = Field(description="WIDTHxHEIGHT in pixels.")
    model: str
    model_sha256: str
    backend: str
    parameters: dict[str, Any] = Field(description="Every parameter in force: what repeats the picture.")
    times: dict[str, float] = Field(description="Milliseconds by stage.")
    notes: list[str] = Field(
        description="What its user should know, such as that the model was not taught the instruction."
    )


class Image(Made):
    """A picture, and how it was made. What was predicted is so of the moment when it was accepted."""

    b64_json: str = Field(description="The picture's file, base64.")
    predicted_start: float = Field(description="When it was expected to begin, Unix seconds.")
    predicted_end: float = Field(description="When it was expected to be done, Unix seconds.")


class TokenDetails(BaseModel):
    """See `Usage`."""

    image_tokens: int = 0
    text_tokens: int = 0


class Usage(BaseModel):
    """Nothing is counted in tokens here: always 0. Clients of OpenAI's want the keys."""

    input_tokens: int = 0
    input_tokens_details: TokenDetails = TokenDetails()
    output_tokens: int = 0
    total_tokens: int = 0


class Echo(BaseModel):
    """What is the same for every picture of a request."""

    output_format: OutputFormat
    quality: Quality
    background: Background
    size: str = Field(description="WIDTHxHEIGHT in pixels, or auto where it is not known yet.")
    user: str | None = Field(None, description="The request's.")
    safety_identifier: str | None = Field(None, description="The request's, or its user.")


class Images(Echo):
    """The answer of `/v1/images`, in the order of the seeds."""

    created: int
    data: list[Image]
    model: str
    model_sha256: str
    notice: str = Field(description="What a user of the model should know.")
    seed: int = Field(description="The first picture's.")
    seeds: list[int]
    usage: Usage = Usage()


class PartialImage(Echo):
    """An event of a stream: a picture of the way to one."""

    type: PartialType
    b64_json: str = Field(description="A PNG, base64.")
    created_at: int
    partial_image_index: int
    picture_index: int = Field(description="Which of the n pictures it is of.")
    step: int
    of: int


class CompletedImage(Echo, Image):
    """The event of a stream that has the picture."""

    type: CompletedType
    created_at: int
    picture_index: int = Field(description="Which of the n pictures it is.")
    usage: Usage = Usage()


class ModelInfo(BaseModel):
    """The model that is served."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "pixrt"
    sha256: str
    precision: str
    backend: str
    notice: str
    native_resolution: int
    size_multiple: int
    tasks: list[str]
    defaults: dict[str, Any]
    examples: list[str] = Field(description="Instructions that it knows; none if its maker has named none.")


class ModelList(BaseModel):
    """The models of the server: one."""

    object: Literal["list"] = "list"
    data: list[ModelInfo]


class Links(BaseModel):
    """Where a job's parts are."""

    self: str
    events: str
    result: str


class JobResult(Made):
    """How a job's picture was made; the picture itself is at `links.result`."""

    media_type: str
    bytes: int


class Job(BaseModel):
    """One picture on its way, or done."""

    id: str
    object: Literal["job"] = "job"
    task: str
    prompt: str
    seed: int
    state: State
    place: int = Field(description="How many are before it in the queue.")
    step: int
    steps: int = Field(description="0 until it runs.")
    created: float
    predicted_start: float = Field(description="When it is expected to begin, Unix seconds; kept up to date.")
    predicted_end: float
    ended: float | None
    expires: float | None = Field(
        description="When it will be forgotten, its picture with it; null until it has ended."
    )
    result: JobResult | None
    error: ErrorBody | None
    links: Links


class Accepted(Job):
    """The first picture's job, and those of all n in the order of their seeds, the first among them."""

    jobs: list[Job]
    user: str | None = Field(description="The request's.")
    safety_identifier: str | None = Field(description="The request's, or its user.")


class JobList(BaseModel):
    """The caller's last jobs, oldest first."""

    object: Literal["list"] = "list"
    data: list[Job]


class StoredLora(BaseModel):
    """A LoRA that a picture was made with, and how strongly."""

    name: str
    scale: float


class StoredParameters(BaseModel):
    """How a picture was made, as it says itself. `task`, `prompt`, `options` and `loras` are a job for this server."""

    source: Literal["pixrt", "a1111"] = Field(description="Which program wrote them.")
    task: str = Field(description="The task that repeats it; where the model cannot do that, the nearest that it can.")
    made_by: str = Field(description="The task that made it.")
    prompt: str
    options: dict[str, Any] = Field(description="What the picture says of the task's options, each within its range.")
    loras: list[StoredLora] = Field(description="Those that the server has.")
    missing_loras: list[str] = Field(description="Names of those that it has not.")
    pictures: list[str] = Field(description="Further pictures that it was made with, to be given again: mask, style.")
    unknown: list[str] = Field(description="Names of parameters that mean nothing here, and are left out.")
    model: str = Field(description="The model that made it, by the name that the picture says.")
    model_sha256: str | None = Field(description="Its hash; null if the picture does not say.")


class TaskInfo(BaseModel):
    """What a task takes: pictures, and options by their JSON schema."""

    needs: list[str]
    may_have: list[str]
    options: dict[str, Any]


class ServerSchema(BaseModel):
    """What may be asked of the server: all that a page needs."""

    model: ModelInfo
    tasks: dict[str, TaskInfo]
    request: dict[str, Any] = Field(description="The JSON schema of a job's fields beside its task's options.")
    loras: list[str]
    result_seconds: float
    max_body_bytes: int
