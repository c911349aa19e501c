//! Every bound of the model in one place.

/// Shards of a new data directory. Queues are spread over them by id.
pub const SHARDS: usize = 16;

/// Bytes that may wait in one connection's output before its consumers are paused.
pub const OUTPUT_BYTES_HIGH: usize = 512 * 1024;

/// Bytes of waiting output below which paused consumers are resumed.
pub const OUTPUT_BYTES_LOW: usize = 128 * 1024;

/// Payloads of at least this many bytes are shared by reference with the output instead of copied into it.
pub const SHARED_PAYLOAD_BYTES: usize = 8 * 1024;

/// Ready messages in a queue whose consumers cannot keep up, above which its publishers wait for a while.
pub const LAGGING_MESSAGES: usize = 1024;

/// Consumers that one queue may have.
pub const CONSUMERS_PER_QUEUE: usize = 1 << 20;

/// Levels of a topic filter, as many words as a binding key of 255 bytes can have: each is a node in an index.
pub const TOPIC_LEVELS: usize = 128;

/// How deep tables and arrays may nest in a header or an argument.
pub const TABLE_DEPTH: usize = 32;

/// Largest message body accepted by default, in bytes (16 MiB, as RabbitMQ 4).
pub const MESSAGE_BYTES: u64 = 16 * 1024 * 1024;

/// Largest configured message body, in bytes.
pub const MESSAGE_BYTES_CEILING: u64 = 512 * 1024 * 1024;

/// Messages of the largest size that one connection may have begun and not finished, if memory allows.
pub const UNFINISHED_MESSAGES: u64 = 4;

/// Routes that one channel remembers.
pub const ROUTES_CACHED: usize = 256;

/// Messages whose time is over that leave a queue under one lock at most.
pub const EXPIRED_AT_ONCE: usize = 2048;

/// Messages that have left a queue, and whose bodies have to be read before they can go anywhere, at most.
pub const DEPARTING: usize = 4 * NEAR_MESSAGES;

/// Messages that one consumer with a filter looks at under one lock, before others have their turn.
pub const SCANNED_AT_ONCE: usize = NEAR_MESSAGES;

/// Milliseconds until dead letters that must arrive somewhere are sent again, if nobody has taken them.
pub const RETRY_MS: u64 = 1000;

/// Events that wait to be published at most; what is more is dropped.
pub const EVENTS_WAITING: usize = 10_000;

/// Longest segment of a stream, in bytes of bodies (16 MiB): how exactly old messages go, and how far to read to find one
/// by its number.
pub const STREAM_SEGMENT_BYTES: u64 = 16 * 1024 * 1024;

/// Messages in a queue above which one more that has no record gets one, so that it can leave memory.
pub const DEEP_MESSAGES: usize = 64 * 1024;

/// Bytes of messages in a queue above which one more that has no record gets one.
pub const DEEP_BYTES: usize = 16 * 1024 * 1024;

/// Messages at the front of a queue that stay in memory, and that are read from the log ahead of its consumers.
pub const NEAR_MESSAGES: usize = 2048;

/// Bytes of messages at the front of a queue that stay in memory, or are read from the log at once.
pub const NEAR_BYTES: usize = 512 * 1024;

/// Bytes of a selector's text.
pub const SELECTOR_BYTES: usize = 64 * 1024;

/// How deep a selector may nest.
pub const SELECTOR_DEPTH: usize = 100;

/// Groups that a queue tells from each other. Of more than that, several go together.
pub const GROUPS: u32 = 16 * 1024;

/// Characters of a pattern in a selector.
pub const LIKE_CHARS: usize = 1024;

/// Messages that an exchange remembers for new bindings, unless its declaration says otherwise.
pub const HISTORY_MESSAGES: usize = 20;

/// Bytes of messages that an exchange remembers for new bindings.
pub const HISTORY_BYTES: usize = 16 * 1024 * 1024;
