from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AgentMessage(_message.Message):
    __slots__ = ("hello", "reply", "notice")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    REPLY_FIELD_NUMBER: _ClassVar[int]
    NOTICE_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    reply: Reply
    notice: Notice
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., reply: _Optional[_Union[Reply, _Mapping]] = ..., notice: _Optional[_Union[Notice, _Mapping]] = ...) -> None: ...

class CoordinatorMessage(_message.Message):
    __slots__ = ("welcome", "request", "cancel")
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    welcome: Welcome
    request: Request
    cancel: Cancel
    def __init__(self, welcome: _Optional[_Union[Welcome, _Mapping]] = ..., request: _Optional[_Union[Request, _Mapping]] = ..., cancel: _Optional[_Union[Cancel, _Mapping]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("protocol", "region", "agent", "instance", "datasets")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    DATASETS_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    region: str
    agent: str
    instance: str
    datasets: _containers.RepeatedCompositeFieldContainer[DatasetOffer]
    def __init__(self, protocol: _Optional[int] = ..., region: _Optional[str] = ..., agent: _Optional[str] = ..., instance: _Optional[str] = ..., datasets: _Optional[_Iterable[_Union[DatasetOffer, _Mapping]]] = ...) -> None: ...

class DatasetOffer(_message.Message):
    __slots__ = ("dataset", "profile_id", "canonical_version", "key_id", "tells", "rooted")
    DATASET_FIELD_NUMBER: _ClassVar[int]
    PROFILE_ID_FIELD_NUMBER: _ClassVar[int]
    CANONICAL_VERSION_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    TELLS_FIELD_NUMBER: _ClassVar[int]
    ROOTED_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    profile_id: bytes
    canonical_version: int
    key_id: bytes
    tells: bool
    rooted: bool
    def __init__(self, dataset: _Optional[str] = ..., profile_id: _Optional[bytes] = ..., canonical_version: _Optional[int] = ..., key_id: _Optional[bytes] = ..., tells: _Optional[bool] = ..., rooted: _Optional[bool] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("protocol", "coordinator", "watched")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    COORDINATOR_FIELD_NUMBER: _ClassVar[int]
    WATCHED_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    coordinator: str
    watched: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, protocol: _Optional[int] = ..., coordinator: _Optional[str] = ..., watched: _Optional[_Iterable[str]] = ...) -> None: ...

class Notice(_message.Message):
    __slots__ = ("dataset", "keys", "first_us", "last_us", "position")
    DATASET_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    FIRST_US_FIELD_NUMBER: _ClassVar[int]
    LAST_US_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    keys: int
    first_us: int
    last_us: int
    position: str
    def __init__(self, dataset: _Optional[str] = ..., keys: _Optional[int] = ..., first_us: _Optional[int] = ..., last_us: _Optional[int] = ..., position: _Optional[str] = ...) -> None: ...

class Cancel(_message.Message):
    __slots__ = ("exchange", "sweep_id")
    EXCHANGE_FIELD_NUMBER: _ClassVar[int]
    SWEEP_ID_FIELD_NUMBER: _ClassVar[int]
    exchange: int
    sweep_id: str
    def __init__(self, exchange: _Optional[int] = ..., sweep_id: _Optional[str] = ...) -> None: ...

class Header(_message.Message):
    __slots__ = ("dataset", "profile_id", "canonical_version", "key_id", "sweep_id", "position", "scope", "scope_id", "bucket")
    DATASET_FIELD_NUMBER: _ClassVar[int]
    PROFILE_ID_FIELD_NUMBER: _ClassVar[int]
    CANONICAL_VERSION_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    SWEEP_ID_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    SCOPE_ID_FIELD_NUMBER: _ClassVar[int]
    BUCKET_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    profile_id: bytes
    canonical_version: int
    key_id: bytes
    sweep_id: str
    position: str
    scope: str
    scope_id: bytes
    bucket: bytes
    def __init__(self, dataset: _Optional[str] = ..., profile_id: _Optional[bytes] = ..., canonical_version: _Optional[int] = ..., key_id: _Optional[bytes] = ..., sweep_id: _Optional[str] = ..., position: _Optional[str] = ..., scope: _Optional[str] = ..., scope_id: _Optional[bytes] = ..., bucket: _Optional[bytes] = ...) -> None: ...

class Request(_message.Message):
    __slots__ = ("exchange", "sweep_id", "timeout_s", "fence", "begin", "children", "lists", "detail", "reveal", "end", "sketch", "letters", "again", "keep", "root")
    EXCHANGE_FIELD_NUMBER: _ClassVar[int]
    SWEEP_ID_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_S_FIELD_NUMBER: _ClassVar[int]
    FENCE_FIELD_NUMBER: _ClassVar[int]
    BEGIN_FIELD_NUMBER: _ClassVar[int]
    CHILDREN_FIELD_NUMBER: _ClassVar[int]
    LISTS_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    REVEAL_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    SKETCH_FIELD_NUMBER: _ClassVar[int]
    LETTERS_FIELD_NUMBER: _ClassVar[int]
    AGAIN_FIELD_NUMBER: _ClassVar[int]
    KEEP_FIELD_NUMBER: _ClassVar[int]
    ROOT_FIELD_NUMBER: _ClassVar[int]
    exchange: int
    sweep_id: str
    timeout_s: float
    fence: int
    begin: Begin
    children: AskChildren
    lists: AskLists
    detail: AskDetail
    reveal: AskReveal
    end: End
    sketch: AskSketch
    letters: AskLetters
    again: AskAgain
    keep: AskKeep
    root: AskRoot
    def __init__(self, exchange: _Optional[int] = ..., sweep_id: _Optional[str] = ..., timeout_s: _Optional[float] = ..., fence: _Optional[int] = ..., begin: _Optional[_Union[Begin, _Mapping]] = ..., children: _Optional[_Union[AskChildren, _Mapping]] = ..., lists: _Optional[_Union[AskLists, _Mapping]] = ..., detail: _Optional[_Union[AskDetail, _Mapping]] = ..., reveal: _Optional[_Union[AskReveal, _Mapping]] = ..., end: _Optional[_Union[End, _Mapping]] = ..., sketch: _Optional[_Union[AskSketch, _Mapping]] = ..., letters: _Optional[_Union[AskLetters, _Mapping]] = ..., again: _Optional[_Union[AskAgain, _Mapping]] = ..., keep: _Optional[_Union[AskKeep, _Mapping]] = ..., root: _Optional[_Union[AskRoot, _Mapping]] = ...) -> None: ...

class Begin(_message.Message):
    __slots__ = ("dataset", "profile_id", "canonical_version", "scope", "bucket", "max_age_s", "no_rescan")
    DATASET_FIELD_NUMBER: _ClassVar[int]
    PROFILE_ID_FIELD_NUMBER: _ClassVar[int]
    CANONICAL_VERSION_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    BUCKET_FIELD_NUMBER: _ClassVar[int]
    MAX_AGE_S_FIELD_NUMBER: _ClassVar[int]
    NO_RESCAN_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    profile_id: bytes
    canonical_version: int
    scope: str
    bucket: bytes
    max_age_s: float
    no_rescan: bool
    def __init__(self, dataset: _Optional[str] = ..., profile_id: _Optional[bytes] = ..., canonical_version: _Optional[int] = ..., scope: _Optional[str] = ..., bucket: _Optional[bytes] = ..., max_age_s: _Optional[float] = ..., no_rescan: _Optional[bool] = ...) -> None: ...

class AskRoot(_message.Message):
    __slots__ = ("dataset", "profile_id", "canonical_version", "max_age_s")
    DATASET_FIELD_NUMBER: _ClassVar[int]
    PROFILE_ID_FIELD_NUMBER: _ClassVar[int]
    CANONICAL_VERSION_FIELD_NUMBER: _ClassVar[int]
    MAX_AGE_S_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    profile_id: bytes
    canonical_version: int
    max_age_s: float
    def __init__(self, dataset: _Optional[str] = ..., profile_id: _Optional[bytes] = ..., canonical_version: _Optional[int] = ..., max_age_s: _Optional[float] = ...) -> None: ...

class AskChildren(_message.Message):
    __slots__ = ("bits", "to_bits", "prefixes", "counts")
    BITS_FIELD_NUMBER: _ClassVar[int]
    TO_BITS_FIELD_NUMBER: _ClassVar[int]
    PREFIXES_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    bits: int
    to_bits: int
    prefixes: bytes
    counts: bool
    def __init__(self, bits: _Optional[int] = ..., to_bits: _Optional[int] = ..., prefixes: _Optional[bytes] = ..., counts: _Optional[bool] = ...) -> None: ...

class AskLists(_message.Message):
    __slots__ = ("bits", "prefixes")
    BITS_FIELD_NUMBER: _ClassVar[int]
    PREFIXES_FIELD_NUMBER: _ClassVar[int]
    bits: int
    prefixes: bytes
    def __init__(self, bits: _Optional[int] = ..., prefixes: _Optional[bytes] = ...) -> None: ...

class AskSketch(_message.Message):
    __slots__ = ("cells", "salt", "bits", "prefixes")
    CELLS_FIELD_NUMBER: _ClassVar[int]
    SALT_FIELD_NUMBER: _ClassVar[int]
    BITS_FIELD_NUMBER: _ClassVar[int]
    PREFIXES_FIELD_NUMBER: _ClassVar[int]
    cells: int
    salt: int
    bits: int
    prefixes: bytes
    def __init__(self, cells: _Optional[int] = ..., salt: _Optional[int] = ..., bits: _Optional[int] = ..., prefixes: _Optional[bytes] = ...) -> None: ...

class AskDetail(_message.Message):
    __slots__ = ("ks", "key_digests", "sealed", "columns", "seal", "picked", "sampled", "versions", "halves")
    KS_FIELD_NUMBER: _ClassVar[int]
    KEY_DIGESTS_FIELD_NUMBER: _ClassVar[int]
    SEALED_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    SEAL_FIELD_NUMBER: _ClassVar[int]
    PICKED_FIELD_NUMBER: _ClassVar[int]
    SAMPLED_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    HALVES_FIELD_NUMBER: _ClassVar[int]
    ks: bytes
    key_digests: bytes
    sealed: _containers.RepeatedCompositeFieldContainer[SealedKey]
    columns: bool
    seal: bool
    picked: Picked
    sampled: int
    versions: bool
    halves: bool
    def __init__(self, ks: _Optional[bytes] = ..., key_digests: _Optional[bytes] = ..., sealed: _Optional[_Iterable[_Union[SealedKey, _Mapping]]] = ..., columns: _Optional[bool] = ..., seal: _Optional[bool] = ..., picked: _Optional[_Union[Picked, _Mapping]] = ..., sampled: _Optional[int] = ..., versions: _Optional[bool] = ..., halves: _Optional[bool] = ...) -> None: ...

class Picked(_message.Message):
    __slots__ = ("alone", "together", "width", "located")
    ALONE_FIELD_NUMBER: _ClassVar[int]
    TOGETHER_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    LOCATED_FIELD_NUMBER: _ClassVar[int]
    alone: bytes
    together: bytes
    width: int
    located: bool
    def __init__(self, alone: _Optional[bytes] = ..., together: _Optional[bytes] = ..., width: _Optional[int] = ..., located: _Optional[bool] = ...) -> None: ...

class AskAgain(_message.Message):
    __slots__ = ("memory", "kept", "columned", "picked", "unread")
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    KEPT_FIELD_NUMBER: _ClassVar[int]
    COLUMNED_FIELD_NUMBER: _ClassVar[int]
    PICKED_FIELD_NUMBER: _ClassVar[int]
    UNREAD_FIELD_NUMBER: _ClassVar[int]
    memory: bytes
    kept: bytes
    columned: bytes
    picked: Picked
    unread: bool
    def __init__(self, memory: _Optional[bytes] = ..., kept: _Optional[bytes] = ..., columned: _Optional[bytes] = ..., picked: _Optional[_Union[Picked, _Mapping]] = ..., unread: _Optional[bool] = ...) -> None: ...

class SealedKey(_message.Message):
    __slots__ = ("key_digest", "ciphertext")
    KEY_DIGEST_FIELD_NUMBER: _ClassVar[int]
    CIPHERTEXT_FIELD_NUMBER: _ClassVar[int]
    key_digest: bytes
    ciphertext: bytes
    def __init__(self, key_digest: _Optional[bytes] = ..., ciphertext: _Optional[bytes] = ...) -> None: ...

class AskReveal(_message.Message):
    __slots__ = ("key_digests", "purpose")
    KEY_DIGESTS_FIELD_NUMBER: _ClassVar[int]
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    key_digests: bytes
    purpose: str
    def __init__(self, key_digests: _Optional[bytes] = ..., purpose: _Optional[str] = ...) -> None: ...

class AskKeep(_message.Message):
    __slots__ = ("bits", "prefix")
    BITS_FIELD_NUMBER: _ClassVar[int]
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    bits: int
    prefix: int
    def __init__(self, bits: _Optional[int] = ..., prefix: _Optional[int] = ...) -> None: ...

class End(_message.Message):
    __slots__ = ("keep",)
    KEEP_FIELD_NUMBER: _ClassVar[int]
    keep: bool
    def __init__(self, keep: _Optional[bool] = ...) -> None: ...

class AskLetters(_message.Message):
    __slots__ = ("dataset", "action", "ids", "reason", "operator")
    DATASET_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    action: str
    ids: _containers.RepeatedScalarFieldContainer[str]
    reason: str
    operator: str
    def __init__(self, dataset: _Optional[str] = ..., action: _Optional[str] = ..., ids: _Optional[_Iterable[str]] = ..., reason: _Optional[str] = ..., operator: _Optional[str] = ...) -> None: ...

class Reply(_message.Message):
    __slots__ = ("exchange", "sweep_id", "part", "last", "progress", "ready", "children", "lists", "details", "revealed", "refusal", "ended", "sketched", "letters", "kept", "rooted")
    EXCHANGE_FIELD_NUMBER: _ClassVar[int]
    SWEEP_ID_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    CHILDREN_FIELD_NUMBER: _ClassVar[int]
    LISTS_FIELD_NUMBER: _ClassVar[int]
    DETAILS_FIELD_NUMBER: _ClassVar[int]
    REVEALED_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    SKETCHED_FIELD_NUMBER: _ClassVar[int]
    LETTERS_FIELD_NUMBER: _ClassVar[int]
    KEPT_FIELD_NUMBER: _ClassVar[int]
    ROOTED_FIELD_NUMBER: _ClassVar[int]
    exchange: int
    sweep_id: str
    part: int
    last: bool
    progress: Progress
    ready: Ready
    children: Children
    lists: Lists
    details: Details
    revealed: Revealed
    refusal: Refusal
    ended: Ended
    sketched: Sketched
    letters: Letters
    kept: Kept
    rooted: Rooted
    def __init__(self, exchange: _Optional[int] = ..., sweep_id: _Optional[str] = ..., part: _Optional[int] = ..., last: _Optional[bool] = ..., progress: _Optional[_Union[Progress, _Mapping]] = ..., ready: _Optional[_Union[Ready, _Mapping]] = ..., children: _Optional[_Union[Children, _Mapping]] = ..., lists: _Optional[_Union[Lists, _Mapping]] = ..., details: _Optional[_Union[Details, _Mapping]] = ..., revealed: _Optional[_Union[Revealed, _Mapping]] = ..., refusal: _Optional[_Union[Refusal, _Mapping]] = ..., ended: _Optional[_Union[Ended, _Mapping]] = ..., sketched: _Optional[_Union[Sketched, _Mapping]] = ..., letters: _Optional[_Union[Letters, _Mapping]] = ..., kept: _Optional[_Union[Kept, _Mapping]] = ..., rooted: _Optional[_Union[Rooted, _Mapping]] = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ("shards_done", "shards_total", "rows")
    SHARDS_DONE_FIELD_NUMBER: _ClassVar[int]
    SHARDS_TOTAL_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    shards_done: int
    shards_total: int
    rows: int
    def __init__(self, shards_done: _Optional[int] = ..., shards_total: _Optional[int] = ..., rows: _Optional[int] = ...) -> None: ...

class DeadLetters(_message.Message):
    __slots__ = ("keyed", "keyless", "reasons")
    class ReasonsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    KEYED_FIELD_NUMBER: _ClassVar[int]
    KEYLESS_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    keyed: int
    keyless: int
    reasons: _containers.ScalarMap[str, int]
    def __init__(self, keyed: _Optional[int] = ..., keyless: _Optional[int] = ..., reasons: _Optional[_Mapping[str, int]] = ...) -> None: ...

class Ready(_message.Message):
    __slots__ = ("header", "engine", "rows", "root_r", "root_r2", "probe", "pulls", "point", "scan_s", "age_s", "duplicate_keys", "dead", "disclosure", "sealed_keys", "notes", "faults")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    ROOT_R_FIELD_NUMBER: _ClassVar[int]
    ROOT_R2_FIELD_NUMBER: _ClassVar[int]
    PROBE_FIELD_NUMBER: _ClassVar[int]
    PULLS_FIELD_NUMBER: _ClassVar[int]
    POINT_FIELD_NUMBER: _ClassVar[int]
    SCAN_S_FIELD_NUMBER: _ClassVar[int]
    AGE_S_FIELD_NUMBER: _ClassVar[int]
    DUPLICATE_KEYS_FIELD_NUMBER: _ClassVar[int]
    DEAD_FIELD_NUMBER: _ClassVar[int]
    DISCLOSURE_FIELD_NUMBER: _ClassVar[int]
    SEALED_KEYS_FIELD_NUMBER: _ClassVar[int]
    NOTES_FIELD_NUMBER: _ClassVar[int]
    FAULTS_FIELD_NUMBER: _ClassVar[int]
    header: Header
    engine: str
    rows: int
    root_r: int
    root_r2: int
    probe: bytes
    pulls: bytes
    point: bool
    scan_s: float
    age_s: float
    duplicate_keys: int
    dead: DeadLetters
    disclosure: str
    sealed_keys: bool
    notes: _containers.RepeatedScalarFieldContainer[str]
    faults: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, header: _Optional[_Union[Header, _Mapping]] = ..., engine: _Optional[str] = ..., rows: _Optional[int] = ..., root_r: _Optional[int] = ..., root_r2: _Optional[int] = ..., probe: _Optional[bytes] = ..., pulls: _Optional[bytes] = ..., point: _Optional[bool] = ..., scan_s: _Optional[float] = ..., age_s: _Optional[float] = ..., duplicate_keys: _Optional[int] = ..., dead: _Optional[_Union[DeadLetters, _Mapping]] = ..., disclosure: _Optional[str] = ..., sealed_keys: _Optional[bool] = ..., notes: _Optional[_Iterable[str]] = ..., faults: _Optional[_Iterable[str]] = ...) -> None: ...

class Rooted(_message.Message):
    __slots__ = ("header", "rows", "root_r", "root_r2", "age_s", "point", "doubt")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    ROOT_R_FIELD_NUMBER: _ClassVar[int]
    ROOT_R2_FIELD_NUMBER: _ClassVar[int]
    AGE_S_FIELD_NUMBER: _ClassVar[int]
    POINT_FIELD_NUMBER: _ClassVar[int]
    DOUBT_FIELD_NUMBER: _ClassVar[int]
    header: Header
    rows: int
    root_r: int
    root_r2: int
    age_s: float
    point: bool
    doubt: str
    def __init__(self, header: _Optional[_Union[Header, _Mapping]] = ..., rows: _Optional[int] = ..., root_r: _Optional[int] = ..., root_r2: _Optional[int] = ..., age_s: _Optional[float] = ..., point: _Optional[bool] = ..., doubt: _Optional[str] = ...) -> None: ...

class Children(_message.Message):
    __slots__ = ("header", "sums", "counts")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    SUMS_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    header: Header
    sums: bytes
    counts: bytes
    def __init__(self, header: _Optional[_Union[Header, _Mapping]] = ..., sums: _Optional[bytes] = ..., counts: _Optional[bytes] = ...) -> None: ...

class Sketched(_message.Message):
    __slots__ = ("header", "sums")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    SUMS_FIELD_NUMBER: _ClassVar[int]
    header: Header
    sums: bytes
    def __init__(self, header: _Optional[_Union[Header, _Mapping]] = ..., sums: _Optional[bytes] = ...) -> None: ...

class Lists(_message.Message):
    __slots__ = ("header", "counts", "k", "r", "r2")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    K_FIELD_NUMBER: _ClassVar[int]
    R_FIELD_NUMBER: _ClassVar[int]
    R2_FIELD_NUMBER: _ClassVar[int]
    header: Header
    counts: bytes
    k: bytes
    r: bytes
    r2: bytes
    def __init__(self, header: _Optional[_Union[Header, _Mapping]] = ..., counts: _Optional[bytes] = ..., k: _Optional[bytes] = ..., r: _Optional[bytes] = ..., r2: _Optional[bytes] = ...) -> None: ...

class Details(_message.Message):
    __slots__ = ("header", "looks", "table", "memory", "forgotten")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    LOOKS_FIELD_NUMBER: _ClassVar[int]
    TABLE_FIELD_NUMBER: _ClassVar[int]
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    FORGOTTEN_FIELD_NUMBER: _ClassVar[int]
    header: Header
    looks: _containers.RepeatedCompositeFieldContainer[Look]
    table: LookTable
    memory: bytes
    forgotten: bool
    def __init__(self, header: _Optional[_Union[Header, _Mapping]] = ..., looks: _Optional[_Iterable[_Union[Look, _Mapping]]] = ..., table: _Optional[_Union[LookTable, _Mapping]] = ..., memory: _Optional[bytes] = ..., forgotten: _Optional[bool] = ...) -> None: ...

class LookTable(_message.Message):
    __slots__ = ("names", "plain", "tails", "digests", "halves", "versions", "whole", "same", "columned", "columns", "fields", "width")
    NAMES_FIELD_NUMBER: _ClassVar[int]
    PLAIN_FIELD_NUMBER: _ClassVar[int]
    TAILS_FIELD_NUMBER: _ClassVar[int]
    DIGESTS_FIELD_NUMBER: _ClassVar[int]
    HALVES_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    WHOLE_FIELD_NUMBER: _ClassVar[int]
    SAME_FIELD_NUMBER: _ClassVar[int]
    COLUMNED_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    names: int
    plain: bytes
    tails: bytes
    digests: bytes
    halves: bool
    versions: bytes
    whole: bytes
    same: bytes
    columned: bytes
    columns: bytes
    fields: int
    width: int
    def __init__(self, names: _Optional[int] = ..., plain: _Optional[bytes] = ..., tails: _Optional[bytes] = ..., digests: _Optional[bytes] = ..., halves: _Optional[bool] = ..., versions: _Optional[bytes] = ..., whole: _Optional[bytes] = ..., same: _Optional[bytes] = ..., columned: _Optional[bytes] = ..., columns: _Optional[bytes] = ..., fields: _Optional[int] = ..., width: _Optional[int] = ...) -> None: ...

class Look(_message.Message):
    __slots__ = ("key_digest", "indexed", "fresh", "dead", "columns", "version", "sealed", "unchanged", "shifted", "whole", "merged", "indexed_copies", "fresh_copies")
    KEY_DIGEST_FIELD_NUMBER: _ClassVar[int]
    INDEXED_FIELD_NUMBER: _ClassVar[int]
    FRESH_FIELD_NUMBER: _ClassVar[int]
    DEAD_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SEALED_FIELD_NUMBER: _ClassVar[int]
    UNCHANGED_FIELD_NUMBER: _ClassVar[int]
    SHIFTED_FIELD_NUMBER: _ClassVar[int]
    WHOLE_FIELD_NUMBER: _ClassVar[int]
    MERGED_FIELD_NUMBER: _ClassVar[int]
    INDEXED_COPIES_FIELD_NUMBER: _ClassVar[int]
    FRESH_COPIES_FIELD_NUMBER: _ClassVar[int]
    key_digest: bytes
    indexed: bytes
    fresh: bytes
    dead: str
    columns: bytes
    version: int
    sealed: bytes
    unchanged: bool
    shifted: bytes
    whole: bool
    merged: _containers.RepeatedScalarFieldContainer[str]
    indexed_copies: bytes
    fresh_copies: bytes
    def __init__(self, key_digest: _Optional[bytes] = ..., indexed: _Optional[bytes] = ..., fresh: _Optional[bytes] = ..., dead: _Optional[str] = ..., columns: _Optional[bytes] = ..., version: _Optional[int] = ..., sealed: _Optional[bytes] = ..., unchanged: _Optional[bool] = ..., shifted: _Optional[bytes] = ..., whole: _Optional[bool] = ..., merged: _Optional[_Iterable[str]] = ..., indexed_copies: _Optional[bytes] = ..., fresh_copies: _Optional[bytes] = ...) -> None: ...

class Revealed(_message.Message):
    __slots__ = ("header", "keys", "refused")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    header: Header
    keys: _containers.RepeatedCompositeFieldContainer[RevealedKey]
    refused: str
    def __init__(self, header: _Optional[_Union[Header, _Mapping]] = ..., keys: _Optional[_Iterable[_Union[RevealedKey, _Mapping]]] = ..., refused: _Optional[str] = ...) -> None: ...

class RevealedKey(_message.Message):
    __slots__ = ("key_digest", "json")
    KEY_DIGEST_FIELD_NUMBER: _ClassVar[int]
    JSON_FIELD_NUMBER: _ClassVar[int]
    key_digest: bytes
    json: str
    def __init__(self, key_digest: _Optional[bytes] = ..., json: _Optional[str] = ...) -> None: ...

class Kept(_message.Message):
    __slots__ = ("header", "name", "keys")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    header: Header
    name: str
    keys: int
    def __init__(self, header: _Optional[_Union[Header, _Mapping]] = ..., name: _Optional[str] = ..., keys: _Optional[int] = ...) -> None: ...

class Refusal(_message.Message):
    __slots__ = ("code", "message", "retryable", "retry_after_s")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    RETRYABLE_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_S_FIELD_NUMBER: _ClassVar[int]
    code: str
    message: str
    retryable: bool
    retry_after_s: float
    def __init__(self, code: _Optional[str] = ..., message: _Optional[str] = ..., retryable: _Optional[bool] = ..., retry_after_s: _Optional[float] = ...) -> None: ...

class Ended(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Letters(_message.Message):
    __slots__ = ("letters", "not_kept", "cleared", "unknown")
    LETTERS_FIELD_NUMBER: _ClassVar[int]
    NOT_KEPT_FIELD_NUMBER: _ClassVar[int]
    CLEARED_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_FIELD_NUMBER: _ClassVar[int]
    letters: _containers.RepeatedCompositeFieldContainer[Letter]
    not_kept: int
    cleared: _containers.RepeatedScalarFieldContainer[str]
    unknown: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, letters: _Optional[_Iterable[_Union[Letter, _Mapping]]] = ..., not_kept: _Optional[int] = ..., cleared: _Optional[_Iterable[str]] = ..., unknown: _Optional[_Iterable[str]] = ...) -> None: ...

class Letter(_message.Message):
    __slots__ = ("id", "dataset", "kind", "reason", "columns", "keyed", "state", "first_seen_us", "last_seen_us", "sweep_id", "count", "note")
    ID_FIELD_NUMBER: _ClassVar[int]
    DATASET_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    KEYED_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    FIRST_SEEN_US_FIELD_NUMBER: _ClassVar[int]
    LAST_SEEN_US_FIELD_NUMBER: _ClassVar[int]
    SWEEP_ID_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    id: str
    dataset: str
    kind: str
    reason: str
    columns: _containers.RepeatedScalarFieldContainer[str]
    keyed: bool
    state: str
    first_seen_us: int
    last_seen_us: int
    sweep_id: str
    count: int
    note: str
    def __init__(self, id: _Optional[str] = ..., dataset: _Optional[str] = ..., kind: _Optional[str] = ..., reason: _Optional[str] = ..., columns: _Optional[_Iterable[str]] = ..., keyed: _Optional[bool] = ..., state: _Optional[str] = ..., first_seen_us: _Optional[int] = ..., last_seen_us: _Optional[int] = ..., sweep_id: _Optional[str] = ..., count: _Optional[int] = ..., note: _Optional[str] = ...) -> None: ...
