//! The names of all settings, so that one that is not known is told of, with the nearest one that is.

use toml::{Table, Value};

use super::auth;

/// Every key, to name the nearest one when one is unknown. The empty section holds what stands outside of sections.
pub(super) const KEYS: [(&str, &[&str]); 18] = [
    (
        "",
        &[
            "data",
            "bind",
            "port_offset",
            "threads",
            "vhosts",
            "loopback_users",
            "amqp",
            "mqtt",
            "stomp",
            "openwire",
            "websocket",
            "management",
            "prometheus",
            "otlp",
            "tls",
            "store",
            "limits",
            "auth",
            "access",
            "log",
            "users",
        ],
    ),
    (
        "amqp",
        &[
            "port",
            "tls_port",
            "product",
            "version",
            "cluster_name",
            "channel_max",
            "frame_max",
            "heartbeat_s",
            "carry_client_deaths",
        ],
    ),
    (
        "mqtt",
        &[
            "port",
            "tls_port",
            "ws_port",
            "wss_port",
            "vhost",
            "anonymous_user",
            "prefetch",
            "receive_maximum",
            "keep_alive_s_max",
            "topic_alias_maximum",
            "session_expiry_s_max",
            "disconnect_on_unauthorized",
            "reveal_refusals",
            "sys_interval_s",
        ],
    ),
    (
        "stomp",
        &[
            "port",
            "tls_port",
            "ws_port",
            "wss_port",
            "vhost",
            "anonymous_user",
            "prefetch",
            "heart_beat_ms_min",
            "head_bytes_max",
        ],
    ),
    (
        "openwire",
        &[
            "port",
            "tls_port",
            "vhost",
            "anonymous_user",
            "broker_name",
            "frame_bytes_max",
            "inactivity_ms_max",
            "connected_brokers",
            "rebalance",
            "dead_letter_queue",
            "dead_letter_prefix",
            "dead_letter_expired",
            "dead_letter_transient",
            "mirror_prefix",
            "authorization",
            "recovery",
        ],
    ),
    ("websocket", &["tls_port", "origins"]),
    ("management", &["port", "tls_port", "sample_interval_ms"]),
    ("prometheus", &["port"]),
    ("otlp", &["endpoint", "headers", "traces", "interval_ms", "timeout_ms", "ca"]),
    (
        "tls",
        &[
            "certificate",
            "key",
            "client_ca",
            "client_certificate_required",
            "min_version",
            "login_from",
            "login_san_type",
            "login_san_index",
        ],
    ),
    (
        "limits",
        &[
            "connections",
            "connections_before_login",
            "handshake_ms",
            "refusal_delay_ms",
            "write_timeout_ms",
            "message_bytes",
            "memory_bytes",
            "disk_free_bytes",
            "login_failures_per_address",
            "login_failures_per_user",
            "login_failures_window_s",
        ],
    ),
    ("store", &["key", "key_file", "former_key_files", "segment_bytes", "rewrite_bytes_per_second"]),
    ("auth", auth::AUTH_KEYS),
    ("auth.oauth2", auth::OAUTH2_KEYS),
    ("auth.ldap", auth::LDAP_KEYS),
    ("auth.http", auth::HTTP_KEYS),
    ("access", &["amqp", "mqtt", "stomp", "openwire", "management", "prometheus", "users"]),
    ("log", &["format", "level", "audit_file"]),
];

fn known(section: &str) -> Option<&'static [&'static str]> {
    KEYS.iter().find(|(name, _)| *name == section).map(|(_, keys)| *keys)
}

/// Checks the keys of a section, and of the sections in it.
pub(super) fn check_keys(section: &str, table: &Table) -> anyhow::Result<()> {
    let keys = known(section).unwrap_or_default();
    for (key, value) in table {
        if !keys.contains(&key.as_str()) {
            return Err(unknown(section, key));
        }
        let inner = full(section, key);
        if let Value::Table(table) = value
            && known(&inner).is_some()
        {
            check_keys(&inner, table)?;
        }
    }
    Ok(())
}

/// A key with its section.
pub(super) fn full(section: &str, key: &str) -> String {
    if section.is_empty() { key.into() } else { format!("{section}.{key}") }
}

fn unknown(section: &str, key: &str) -> anyhow::Error {
    let candidates = KEYS.iter().flat_map(|(section, keys)| keys.iter().map(move |key| full(section, key)));
    let asked = full(section, key);
    let nearest = candidates.min_by_key(|candidate| strsim::damerau_levenshtein(candidate, &asked));
    anyhow::anyhow!("unknown setting '{asked}'; the nearest known one is '{}'", nearest.unwrap_or_default())
}

/// Sets what an environment variable names: `section_key`, or `key` outside of sections.
pub(super) fn set(table: &mut Table, key: &str, text: &str) -> anyhow::Result<()> {
    let value = parse(text);
    if known("").unwrap_or_default().contains(&key) {
        table.insert(key.into(), value);
        return Ok(());
    }
    let (mut section, mut key) = key.split_once('_').unwrap_or(("", key));
    let mut table = section_of(table, section);
    if let Some((inner, rest)) = key.split_once('_')
        && let Some((name, _)) = KEYS.iter().find(|(name, _)| *name == full(section, inner))
    {
        (section, key) = (name, rest);
        table = table.and_then(|table| section_of(table, inner));
    }
    if !known(section).unwrap_or_default().contains(&key) {
        return Err(unknown(section, key));
    }
    if let Some(table) = table {
        table.insert(key.into(), value);
    }
    Ok(())
}

fn section_of<'t>(table: &'t mut Table, section: &str) -> Option<&'t mut Table> {
    table.entry(section).or_insert_with(|| Value::Table(Table::new())).as_table_mut()
}

/// A value as TOML would read it; text without quotes is text.
fn parse(text: &str) -> Value {
    let parsed = format!("value = {text}").parse::<Table>().ok().and_then(|mut table| table.remove("value"));
    parsed.unwrap_or_else(|| Value::String(text.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_documented_is_known_and_what_is_known_is_documented() {
        let page = include_str!("../../../../docs/configuration.md");
        let rows = page.lines().filter(|line| line.starts_with("| `") && !line.starts_with("| `--"));
        let documented: Vec<&str> =
            rows.flat_map(|row| row.split('|').nth(1).unwrap_or_default().split('`').skip(1).step_by(2)).collect();
        assert!(documented.len() > 100, "the page has other tables");
        for name in &documented {
            let (section, key) = name.rsplit_once('.').unwrap_or(("", name));
            assert!(known(section).is_some_and(|keys| keys.contains(&key)), "{name} is documented, and no setting");
        }
        for (section, keys) in KEYS {
            for key in keys.iter().filter(|key| known(&full(section, key)).is_none()) {
                let name = full(section, key);
                let is_list = page.contains(&format!("[[{name}]]"));
                assert!(is_list || documented.contains(&&*name), "{name} is not documented");
            }
        }
    }
}
