//! Lists for people, for scripts, and for other programs.

use std::io::Write;

use serde_json::Value;

/// What stands at a path of names with dots, as text.
pub fn cell(row: &Value, column: &str) -> String {
    let value = column.split('.').fold(row, |value, name| &value[name]);
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.iter().all(Value::is_string) => {
            items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

/// Writes a table with a head and columns under each other.
///
/// # Errors
/// If nobody takes it.
pub fn aligned(out: &mut impl Write, rows: &[Value], columns: &[String]) -> std::io::Result<()> {
    let mut lines = vec![columns.iter().map(|column| column.replace('_', " ")).collect::<Vec<_>>()];
    lines.extend(rows.iter().map(|row| columns.iter().map(|column| cell(row, column)).collect()));
    let widths: Vec<usize> = (0..columns.len())
        .map(|column| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0))
        .collect();
    for line in lines {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}

/// Writes a table with lines around it, as `rabbitmqadmin` does.
///
/// # Errors
/// If nobody takes it.
pub fn framed(out: &mut impl Write, rows: &[Value], columns: &[String]) -> std::io::Result<()> {
    let mut lines = vec![columns.to_vec()];
    lines.extend(rows.iter().map(|row| columns.iter().map(|column| cell(row, column)).collect()));
    let widths: Vec<usize> = (0..columns.len())
        .map(|column| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0))
        .collect();
    let edge: String = widths.iter().map(|width| format!("+{}", "-".repeat(width + 2))).collect();
    writeln!(out, "{edge}+")?;
    for (at, line) in lines.iter().enumerate() {
        let centred = |(cell, width): (&String, &usize)| {
            if at == 0 { format!("| {cell:^width$} ") } else { format!("| {cell:<width$} ") }
        };
        writeln!(out, "{}|", line.iter().zip(&widths).map(centred).collect::<String>())?;
        if at == 0 {
            writeln!(out, "{edge}+")?;
        }
    }
    writeln!(out, "{edge}+")
}

/// Writes lines with tabs between the columns, as `rabbitmqctl` does.
///
/// # Errors
/// If nobody takes it.
pub fn tabbed(out: &mut impl Write, rows: &[Value], columns: &[String], with_head: bool) -> std::io::Result<()> {
    if with_head {
        writeln!(out, "{}", columns.join("\t"))?;
    }
    for row in rows {
        let cells: Vec<_> = columns.iter().map(|column| cell(row, column).replace('\t', " ")).collect();
        writeln!(out, "{}", cells.join("\t"))?;
    }
    Ok(())
}

/// Writes names and values under each other.
///
/// # Errors
/// If nobody takes it.
pub fn described(out: &mut impl Write, object: &Value) -> std::io::Result<()> {
    for (name, value) in object.as_object().into_iter().flatten() {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let value = if value == "null" { "–".to_owned() } else { value };
        writeln!(out, "{:<18}{value}", name.replace('_', " "))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_stand_under_each_other() {
        let rows = [json!({ "name": "a", "x": { "y": 10 } }), json!({ "name": "längst", "x": null })];
        let columns = ["name".to_owned(), "x.y".to_owned()];
        let mut out = Vec::new();
        aligned(&mut out, &rows, &columns).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "name    x.y\na       10\nlängst\n");
        let mut out = Vec::new();
        tabbed(&mut out, &rows, &columns, true).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "name\tx.y\na\t10\nlängst\t\n");
        let mut out = Vec::new();
        framed(&mut out, &rows[..1], &columns).unwrap();
        let frame = "+------+-----+";
        assert_eq!(
            String::from_utf8(out).unwrap(),
            format!("{frame}\n| name | x.y |\n{frame}\n| a    | 10  |\n{frame}\n")
        );
    }
}
