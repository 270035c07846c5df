from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SweepRequest(_message.Message):
    __slots__ = ("dataset", "regions", "job_id", "purpose", "lag_max_s", "limit", "max_time_s", "max_bytes", "max_rows", "max_differences", "scope", "bucket", "max_age_s", "rescan")
    DATASET_FIELD_NUMBER: _ClassVar[int]
    REGIONS_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    LAG_MAX_S_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    MAX_TIME_S_FIELD_NUMBER: _ClassVar[int]
    MAX_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_ROWS_FIELD_NUMBER: _ClassVar[int]
    MAX_DIFFERENCES_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    BUCKET_FIELD_NUMBER: _ClassVar[int]
    MAX_AGE_S_FIELD_NUMBER: _ClassVar[int]
    RESCAN_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    regions: _containers.RepeatedScalarFieldContainer[str]
    job_id: str
    purpose: str
    lag_max_s: float
    limit: int
    max_time_s: float
    max_bytes: int
    max_rows: int
    max_differences: int
    scope: str
    bucket: bytes
    max_age_s: float
    rescan: bool
    def __init__(self, dataset: _Optional[str] = ..., regions: _Optional[_Iterable[str]] = ..., job_id: _Optional[str] = ..., purpose: _Optional[str] = ..., lag_max_s: _Optional[float] = ..., limit: _Optional[int] = ..., max_time_s: _Optional[float] = ..., max_bytes: _Optional[int] = ..., max_rows: _Optional[int] = ..., max_differences: _Optional[int] = ..., scope: _Optional[str] = ..., bucket: _Optional[bytes] = ..., max_age_s: _Optional[float] = ..., rescan: _Optional[bool] = ...) -> None: ...

class SweepEvent(_message.Message):
    __slots__ = ("progress", "report", "sweep_id")
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    SWEEP_ID_FIELD_NUMBER: _ClassVar[int]
    progress: SweepProgress
    report: JsonPiece
    sweep_id: str
    def __init__(self, progress: _Optional[_Union[SweepProgress, _Mapping]] = ..., report: _Optional[_Union[JsonPiece, _Mapping]] = ..., sweep_id: _Optional[str] = ...) -> None: ...

class SweepProgress(_message.Message):
    __slots__ = ("region", "stage", "shards_done", "shards_total", "rows", "elapsed_s", "eta_s")
    REGION_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    SHARDS_DONE_FIELD_NUMBER: _ClassVar[int]
    SHARDS_TOTAL_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    ELAPSED_S_FIELD_NUMBER: _ClassVar[int]
    ETA_S_FIELD_NUMBER: _ClassVar[int]
    region: str
    stage: str
    shards_done: int
    shards_total: int
    rows: int
    elapsed_s: float
    eta_s: float
    def __init__(self, region: _Optional[str] = ..., stage: _Optional[str] = ..., shards_done: _Optional[int] = ..., shards_total: _Optional[int] = ..., rows: _Optional[int] = ..., elapsed_s: _Optional[float] = ..., eta_s: _Optional[float] = ...) -> None: ...

class StatusRequest(_message.Message):
    __slots__ = ("dataset",)
    DATASET_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    def __init__(self, dataset: _Optional[str] = ...) -> None: ...

class JsonPiece(_message.Message):
    __slots__ = ("text", "last")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    text: str
    last: bool
    def __init__(self, text: _Optional[str] = ..., last: _Optional[bool] = ...) -> None: ...

class FindingsRequest(_message.Message):
    __slots__ = ("sweep_id", "dataset", "limit", "offset")
    SWEEP_ID_FIELD_NUMBER: _ClassVar[int]
    DATASET_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    sweep_id: str
    dataset: str
    limit: int
    offset: int
    def __init__(self, sweep_id: _Optional[str] = ..., dataset: _Optional[str] = ..., limit: _Optional[int] = ..., offset: _Optional[int] = ...) -> None: ...

class SteerRequest(_message.Message):
    __slots__ = ("sweep_id", "action")
    SWEEP_ID_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    sweep_id: str
    action: str
    def __init__(self, sweep_id: _Optional[str] = ..., action: _Optional[str] = ...) -> None: ...

class LettersRequest(_message.Message):
    __slots__ = ("action", "dataset", "region", "ids", "reason", "discarded", "limit")
    ACTION_FIELD_NUMBER: _ClassVar[int]
    DATASET_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DISCARDED_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    action: str
    dataset: str
    region: str
    ids: _containers.RepeatedScalarFieldContainer[str]
    reason: str
    discarded: bool
    limit: int
    def __init__(self, action: _Optional[str] = ..., dataset: _Optional[str] = ..., region: _Optional[str] = ..., ids: _Optional[_Iterable[str]] = ..., reason: _Optional[str] = ..., discarded: _Optional[bool] = ..., limit: _Optional[int] = ...) -> None: ...
