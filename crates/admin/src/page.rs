//! Lists as clients ask for them: a page, in an order, of those with a name, with some of the columns.

use std::{borrow::Cow, cmp::Ordering};

use broker::identity::Pattern;
use serde::Deserialize;
use serde_json::{Map, Value as Json, json};

use crate::problem::Problem;

/// Rows of a page, if a client does not say how many.
const PAGE_SIZE: usize = 100;

/// Rows of a page at most.
const PAGE_SIZE_MAX: usize = 500;

/// How a client wants a list.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Wish {
    page: Option<String>,
    page_size: Option<String>,
    name: Option<String>,
    use_regex: Option<String>,
    pagination: Option<String>,
    columns: Option<String>,
    sort: Option<String>,
    sort_reverse: Option<String>,
    /// Whether only what things are is wanted, and not how they are doing.
    disable_stats: Option<String>,
    /// Whether even then the numbers of messages are.
    enable_queue_totals: Option<String>,
}

fn is_true(text: Option<&String>) -> bool {
    text.is_some_and(|text| text == "true")
}

impl Wish {
    /// Whether only what things are is wanted.
    pub fn without_stats(&self) -> bool {
        is_true(self.disable_stats.as_ref())
    }

    /// Whether the numbers of messages are wanted all the same.
    pub fn with_totals(&self) -> bool {
        is_true(self.enable_queue_totals.as_ref())
    }
}

/// What rows are ordered by.
#[derive(Clone, Debug, PartialEq)]
pub enum Key {
    /// Nothing, which comes first.
    Nothing,
    /// A number.
    Number(f64),
    /// Text.
    Text(String),
}

impl Key {
    fn of(json: &Json) -> Self {
        match json {
            Json::Null => Self::Nothing,
            Json::Bool(flag) => Self::Number(f64::from(u8::from(*flag))),
            Json::Number(number) => Self::Number(number.as_f64().unwrap_or_default()),
            Json::String(text) => Self::Text(text.clone()),
            other => Self::Text(other.to_string()),
        }
    }

    fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Number(a), Self::Number(b)) => a.total_cmp(b),
            (Self::Text(a), Self::Text(b)) => a.cmp(b),
            (Self::Nothing, Self::Nothing) => Ordering::Equal,
            (Self::Nothing, _) | (Self::Number(_), Self::Text(_)) => Ordering::Less,
            _ => Ordering::Greater,
        }
    }
}

/// A row of a list, before it is written out.
pub trait Row {
    /// By which clients look for it.
    fn name(&self) -> Cow<'_, str>;

    /// Which comes first if the client does not say.
    fn order(&self, other: &Self) -> Ordering;

    /// The value of a column, if that is less work than writing the row out.
    fn key(&self, _column: &str) -> Option<Key> {
        None
    }

    /// The row.
    fn json(&self) -> Json;
}

/// Makes a list of rows.
///
/// # Errors
/// If the client asks for a page that there cannot be.
pub fn list<R: Row>(wish: &Wish, mut rows: Vec<R>) -> Result<Json, Problem> {
    let total = rows.len();
    if let Some(name) = wish.name.as_deref().filter(|name| !name.is_empty()) {
        let pattern = is_true(wish.use_regex.as_ref()).then(|| Pattern::new(name)).transpose();
        let pattern = pattern.map_err(Problem::bad)?;
        let part = name.to_lowercase();
        rows.retain(|row| match &pattern {
            Some(pattern) => pattern.matches(&row.name()),
            None => row.name().to_lowercase().contains(&part),
        });
    }
    let filtered = rows.len();
    let paging = Paging::of(wish, filtered)?;
    let range = paging.as_ref().map_or(0..filtered, |paging| paging.range(filtered));
    let reverse = is_true(wish.sort_reverse.as_ref());
    let turned = |ordering: Ordering| if reverse { ordering.reverse() } else { ordering };
    let rows = match wish.sort.as_deref().filter(|sort| !sort.is_empty()) {
        None => in_range(rows, &range, |a, b| turned(a.order(b))),
        Some(sort) => {
            let keyed = |row: R| (row.key(sort).unwrap_or_else(|| Key::of(at(&row.json(), sort))), row);
            let keyed = rows.into_iter().map(keyed).collect();
            let by_key = |a: &(Key, R), b: &(Key, R)| turned(a.0.compare(&b.0)).then_with(|| a.1.order(&b.1));
            in_range(keyed, &range, by_key).into_iter().map(|(_, row)| row).collect()
        }
    };
    let columns: Option<Vec<&str>> = wish.columns.as_deref().map(|columns| columns.split(',').collect());
    let items = rows.iter().map(|row| match &columns {
        Some(columns) => pick(&row.json(), columns),
        None => row.json(),
    });
    let items: Vec<Json> = items.collect();
    Ok(match paging {
        None => items.into(),
        Some(Paging { page, size, pages }) => json!({
            "total_count": total,
            "item_count": items.len(),
            "filtered_count": filtered,
            "page": page,
            "page_size": size,
            "page_count": pages,
            "items": items,
        }),
    })
}

struct Paging {
    page: usize,
    size: usize,
    pages: usize,
}

impl Paging {
    fn of(wish: &Wish, rows: usize) -> Result<Option<Self>, Problem> {
        if wish.page.is_none() && wish.page_size.is_none() && !is_true(wish.pagination.as_ref()) {
            return Ok(None);
        }
        let number = |text: Option<&String>, what: &str, otherwise: usize| match text {
            None => Ok(otherwise),
            Some(text) => {
                let number = text.parse().ok().filter(|&number| number > 0);
                number.ok_or_else(|| Problem::bad(format!("{what} is '{text}'; it must be a number from 1 on")))
            }
        };
        let page = number(wish.page.as_ref(), "page", 1)?;
        let size = number(wish.page_size.as_ref(), "page_size", PAGE_SIZE)?;
        if size > PAGE_SIZE_MAX {
            return Err(Problem::bad(format!("page_size is {size}; it may be {PAGE_SIZE_MAX} at most")));
        }
        let pages = rows.div_ceil(size).max(1);
        if page > pages {
            return Err(Problem::bad(format!("page {page} is behind the last one, {pages}")));
        }
        Ok(Some(Self { page, size, pages }))
    }

    fn range(&self, rows: usize) -> std::ops::Range<usize> {
        let first = (self.page - 1) * self.size;
        first..(first + self.size).min(rows)
    }
}

/// The rows with some places in an order. The others need not be sorted.
fn in_range<T>(
    mut rows: Vec<T>,
    range: &std::ops::Range<usize>,
    mut compare: impl FnMut(&T, &T) -> Ordering,
) -> Vec<T> {
    if range.end < rows.len() {
        rows.select_nth_unstable_by(range.end, &mut compare);
        rows.truncate(range.end);
    }
    if range.start > 0 && range.start < rows.len() {
        rows.select_nth_unstable_by(range.start, &mut compare);
    }
    let mut rows = rows.split_off(range.start.min(rows.len()));
    rows.sort_by(compare);
    rows
}

/// What stands at a path of names with dots.
fn at<'j>(json: &'j Json, path: &str) -> &'j Json {
    path.split('.').fold(json, |json, name| &json[name])
}

/// Some columns of a row, by paths of names with dots.
fn pick(row: &Json, columns: &[&str]) -> Json {
    let mut picked = Map::new();
    for column in columns {
        let value = at(row, column);
        if value.is_null() {
            continue;
        }
        let mut place = &mut picked;
        let mut names = column.split('.').peekable();
        while let Some(name) = names.next() {
            if names.peek().is_none() {
                place.insert(name.into(), value.clone());
                break;
            }
            let inner = place.entry(name).or_insert_with(|| Json::Object(Map::new()));
            let Some(inner) = inner.as_object_mut() else { break };
            place = inner;
        }
    }
    picked.into()
}

/// A row that is written out already.
pub struct Written(pub Json);

impl Row for Written {
    fn name(&self) -> Cow<'_, str> {
        self.0["name"].as_str().unwrap_or_default().into()
    }

    /// Who writes rows out has put them in order.
    fn order(&self, _: &Self) -> Ordering {
        Ordering::Equal
    }

    fn json(&self) -> Json {
        self.0.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Number(u32);

    impl Row for Number {
        fn name(&self) -> Cow<'_, str> {
            format!("row {}", self.0).into()
        }

        fn order(&self, other: &Self) -> Ordering {
            self.0.cmp(&other.0)
        }

        fn json(&self) -> Json {
            json!({ "name": self.name(), "a": { "b": 100 - self.0, "c": 1 }, "d": true })
        }
    }

    fn wish(text: &str) -> Wish {
        let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
        let object: Map<String, Json> = pairs.map(|(name, value)| (name.into(), value.into())).collect();
        serde_json::from_value(object.into()).unwrap()
    }

    fn names(list: &Json) -> Vec<&str> {
        let items = list.as_array().or_else(|| list["items"].as_array()).unwrap();
        items.iter().map(|item| item["name"].as_str().unwrap()).collect()
    }

    #[test]
    fn pages_orders_and_columns() {
        let rows = || (0..100).rev().map(Number).collect::<Vec<_>>();
        let page = list(&wish("page=2&page_size=3"), rows()).unwrap();
        assert_eq!(names(&page), ["row 3", "row 4", "row 5"]);
        assert_eq!(
            (&page["total_count"], &page["filtered_count"], &page["page_count"]),
            (&json!(100), &json!(100), &json!(34))
        );
        let last = list(&wish("page=34&page_size=3"), rows()).unwrap();
        assert_eq!((names(&last), &last["item_count"]), (vec!["row 99"], &json!(1)));
        let sorted = list(&wish("sort=a.b&page=1&page_size=2"), rows()).unwrap();
        assert_eq!(names(&sorted), ["row 99", "row 98"]);
        let turned = list(&wish("sort=a.b&sort_reverse=true&page=1&page_size=2&columns=name,a.b"), rows()).unwrap();
        assert_eq!(turned["items"], json!([{"name": "row 0", "a": {"b": 100}}, {"name": "row 1", "a": {"b": 99}}]));
        let found = list(&wish("name=^row 1.$&use_regex=true"), rows()).unwrap();
        assert_eq!(found.as_array().unwrap().len(), 10);
        assert_eq!(list(&wish("name=ROW 1&page=1"), rows()).unwrap()["filtered_count"], 11);
    }

    #[test]
    fn impossible_pages_are_refused() {
        for text in ["page=0", "page=x", "page=2", "page_size=501", "page_size=-1", "name=(&use_regex=true"] {
            assert!(list(&wish(text), vec![Number(1)]).is_err(), "{text}");
        }
        let none = list(&wish("page=1"), Vec::<Number>::new()).unwrap();
        assert_eq!((&none["page_count"], &none["items"]), (&json!(1), &json!([])));
    }
}
