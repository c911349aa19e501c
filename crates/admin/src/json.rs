//! The model's values in JSON, which has fewer types, and back.

use broker::{Table, Value};
use serde_json::{Map, Value as Json};

/// A table.
pub fn of_table(table: &Table) -> Json {
    table.0.iter().map(|(name, value)| (name.to_string(), of_value(value))).collect::<Map<_, _>>().into()
}

/// A value.
pub fn of_value(value: &Value) -> Json {
    match value {
        Value::Void => Json::Null,
        Value::Bool(flag) => (*flag).into(),
        Value::Timestamp(seconds) => (*seconds).into(),
        Value::Text(bytes) | Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned().into(),
        Value::Array(values) => values.iter().map(of_value).collect::<Vec<_>>().into(),
        Value::Table(entries) => of_table(entries),
        Value::Decimal(scale, number) => (f64::from(*number) / 10f64.powi(i32::from(*scale))).into(),
        value => value.as_integer().map(Json::from).or_else(|| value.as_float().map(Json::from)).unwrap_or_default(),
    }
}

/// A table out of JSON.
pub fn table(object: &Map<String, Json>) -> Table {
    Table(object.iter().map(|(name, json)| (name.as_str().into(), value(json))).collect())
}

/// A value out of JSON.
pub fn value(json: &Json) -> Value {
    match json {
        Json::Null => Value::Void,
        Json::Bool(flag) => Value::Bool(*flag),
        Json::Number(number) => match number.as_i64() {
            Some(integer) => Value::I64(integer),
            None => Value::F64(number.as_f64().unwrap_or_default()),
        },
        Json::String(text) => text.as_str().into(),
        Json::Array(values) => Value::Array(values.iter().map(value).collect()),
        Json::Object(object) => Value::Table(table(object)),
    }
}
