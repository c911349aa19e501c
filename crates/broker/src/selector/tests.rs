use proptest::prelude::*;

use super::*;
use crate::value::Table;

fn sample() -> Table {
    let mut headers = Table::default();
    headers.push("colour", Value::from("red"));
    headers.push("quote", Value::from("it's 100%_"));
    headers.push("weight", Value::I32(2501));
    headers.push("price", Value::F64(2.5));
    headers.push("yes", Value::Bool(true));
    headers.push("no", Value::Bool(false));
    headers.push("void", Value::Void);
    headers.push("list", Value::Array(Vec::new()));
    headers.push("a.b$c_1", Value::I64(-1));
    headers
}

fn evaluate(selector: &Selector) -> Option<bool> {
    let headers = sample();
    match selector.evaluate(&Subject::new(&headers, &headers)) {
        Operand::Bool(value) => Some(value),
        _ => None,
    }
}

#[track_caller]
fn check(expected: Option<bool>, texts: &[&str]) {
    for text in texts {
        let selector = Selector::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(evaluate(&selector), expected, "{text}");
    }
}

#[test]
fn text_is_what_it_says_if_the_selector_asks_for_that() {
    let mut headers = Table::default();
    for (name, value) in [("age", "42"), ("price", " 2.5"), ("open", "TRUE"), ("colour", "red")] {
        headers.push(name, value.into());
    }
    headers.push("weight", Value::I32(7));
    let matches = |text: &str| Selector::parse(text).unwrap().matches(&Subject::new(&headers, &headers));
    let said = [
        "age > 41",
        "41 < age",
        "age = 42 AND price = 2.5",
        "age BETWEEN 42 AND 43",
        "open = TRUE",
        "colour <> 'blue' AND colour = 'red'",
        "weight = 7 AND age = '42'",
    ];
    for text in said {
        assert!(matches(&format!("{CONVERT}{text}")), "{text}");
    }
    for text in ["colour > 1", "colour <> 1", "age > 42", "open = FALSE", "missing > 1", "weight = 'red'"] {
        assert!(!matches(&format!("{CONVERT}{text}")), "{text}");
    }
    assert!(!matches("age > 41") && !matches("open = TRUE"));
    assert_eq!(Selector::parse(&format!("{CONVERT}age >")).unwrap_err().at, 6);
}

#[test]
fn what_is_true() {
    check(
        Some(true),
        &[
            "colour = 'red'",
            "weight = 2501 AND colour <> 'blue'",
            "weight > 2500 and weight < 2502 and weight >= 2501 and weight <= 2501.0",
            "yes",
            "NOT no",
            "yes = TRUE and no = false",
            "not (yes and no)",
            "NOT NOT yes",
            "NOT colour = 'blue'",
            "colour IN ('green', 'red') AND colour NOT IN ('blue')",
            "weight in (1, 2501) and weight NOT IN (-1, 2.5)",
            "weight BETWEEN 2501 AND 2501 and weight not between 1 and 2",
            "colour LIKE 'r%' and colour like '_e_' and colour not like '_' and colour like '%' and colour like 'red%'",
            "quote = 'it''s 100%_' and quote like '%100!%!_' escape '!'",
            "quote like '%s%0%'",
            "missing IS NULL and void is null and colour IS NOT NULL and list is not null",
            "a.b$c_1 = -1",
            "1 + 2 * 3 = 7 and (1 + 2) * 3 = 9 and 7 / 2 = 3 and 7 / 2.0 = 3.5 and 10 - 3 - 2 = 5",
            "-weight = -2501 and +weight = 2501 and - -weight = 2501",
            "0x10 = 16 and 0XfF = 255 and 010 = 8 and 0 = -0 and 10L = 10 and 0x10L = 16",
            "1. = 1 and .5 = 0.5 and 1e3 = 1000 and 1.5E-1 = .15 and 2f = 2.0 and 2.5d = price",
            "-9223372036854775808 < 0 and 9223372036854775807 > 0 and 0x7fffffffffffffff > 0",
            "9223372036854775807 + 1 = -9223372036854775808",
            "missing = 1 OR yes",
            "JMSPriority = 4 and JMSDeliveryMode = 'NON_PERSISTENT' and JMSMessageID is null",
            "Colour IS NULL",
            "weight/0.0>1000",
        ],
    );
}

#[test]
fn what_is_false() {
    let texts = ["colour = 'blue'", "missing = 1 AND no", "colour in ()", "weight not between 0 and 9999", "no"];
    check(Some(false), &[texts[0], texts[1], texts[3], texts[4]]);
    assert!(Selector::parse(texts[2]).is_err(), "a list has members");
}

#[test]
fn what_nobody_can_say() {
    check(
        None,
        &[
            "missing = 1",
            "NOT missing = 1",
            "missing <> 1",
            "missing in ('a')",
            "missing not in ('a')",
            "missing like '%'",
            "weight like '2%'",
            "missing between 1 and 2",
            "missing + 1 = 1",
            "missing = missing",
            "missing AND yes",
            "missing OR no",
            "weight / 0 = 1",
            // What is of different types cannot be compared.
            "colour = weight",
            "NOT colour = weight",
            "colour > weight",
            "yes = weight",
            "weight AND yes",
            "list = 1",
            "weight NOT IN (1, 'a')",
            "-colour = 1",
        ],
    );
}

#[test]
fn errors_say_where_and_what() {
    for (text, expected) in [
        ("", "at character 1: expected an identifier, a literal or '(', found the end"),
        ("a = ", "at character 5: expected an identifier, a literal or '(', found the end"),
        ("a = 1 b", "at character 7: expected an operator, found 'b'"),
        ("(a = 1", "at character 7: expected ')', found the end"),
        ("é = 'x", "at character 5: the string has no end"),
        ("a ? 1", "at character 3: '?' has no meaning here"),
        ("a = 12ab", "at character 5: a number cannot have letters"),
        ("a = 08", "at character 5: '08' is not a whole number of 64 bits with base 8"),
        ("a = 9223372036854775808", "at character 5: the number has more than 64 bits"),
        (
            "a = 99999999999999999999",
            "at character 5: '99999999999999999999' is not a whole number of 64 bits with base 10",
        ),
        ("a = 1e999", "at character 5: '1e999' is not a number"),
        ("1 + 2", "at character 1: expected a condition"),
        ("'a'", "at character 1: expected a condition"),
        ("a AND 1", "at character 7: expected a condition"),
        ("a = 1 AND NOT 'x'", "at character 15: expected a condition"),
        ("a < 'x'", "at character 5: expected a number"),
        ("1 = 'x'", "at character 5: expected a number"),
        ("a BETWEEN 1 OR 2", "at character 13: expected AND, found OR"),
        ("a IS 1", "at character 6: expected NULL, found a number"),
        ("a NOT 1", "at character 7: expected BETWEEN, IN or LIKE, found a number"),
        ("a LIKE b", "at character 8: expected a pattern, found 'b'"),
        ("a LIKE 'x' ESCAPE 'yy'", "at character 19: the escape character is one character"),
        ("a LIKE 'x!' ESCAPE '!'", "at character 8: there is nothing behind the escape character"),
        ("a IN (b)", "at character 7: IN takes a list of literals"),
        ("NULL = 1", "at character 1: expected an identifier, a literal or '(', found NULL"),
    ] {
        assert_eq!(Selector::parse(text).unwrap_err().to_string(), expected, "{text}");
    }
}

#[test]
fn everything_is_bounded() {
    let deep = |problem: &str| problem == "a selector nests at most 100 levels deep";
    for open in ["(", "NOT ", "- ", "-(", "((NOT("] {
        let text = open.repeat(limits::SELECTOR_BYTES / open.len());
        let error = Selector::parse(&text).unwrap_err();
        assert!(deep(&error.problem) && error.at < 1000, "{error}");
    }
    let nested = format!("{}yes{}", "(".repeat(100), ")".repeat(100));
    check(Some(true), &[&nested]);
    for open in ["{'not',", "[", "{", "{'and',{'or',"] {
        let text = open.repeat(limits::SELECTOR_BYTES / open.len());
        assert!(deep(&Selector::parse_erlang(&text).unwrap_err().problem));
    }
    let long = Selector::parse(&" ".repeat(limits::SELECTOR_BYTES + 1)).unwrap_err();
    assert_eq!(long.problem, "a selector has at most 65536 bytes");
    let pattern = format!("a LIKE '{}'", "%a".repeat(600));
    assert_eq!(Selector::parse(&pattern).unwrap_err().problem, "a pattern has at most 1024 characters");
    // Long chains are not deep.
    let chain = vec!["yes"; 8000].join(" AND ");
    check(Some(true), &[&chain, &format!("{} = 8000", vec!["1"; 8000].join("+"))]);
}

#[test]
fn erlang_terms_are_selectors_too() {
    for (text, expected) in [
        ("{'=',{'ident',<<\"colour\">>},<<\"red\">>}.", Some(true)),
        ("{ident, <<\"yes\">>}.", Some(true)),
        ("{'and',{'is_null',{'ident',<<\"nothing\">>}},{'>',{'ident',<<\"JMSPriority\">>},{'-',12,9}}}.", Some(true)),
        ("{'like',{'ident',<<\"quote\">>},<<\"%100!%!_\">>,<<\"!\">>}", Some(true)),
        ("{'not_like',{'ident',<<\"colour\">>},<<\"b%\">>,'no_escape'}.", Some(true)),
        ("{'between',{'ident',<<\"weight\">>},2501,2.5021E3}.", Some(true)),
        ("{'not_between',{'ident',<<\"weight\">>},{'range',-1,0}}.", Some(true)),
        ("{'in',{'ident',<<\"colour\">>},[<<\"red\">>,<<\"blue\">>]}.", Some(true)),
        ("{'not_in',{'ident',<<\"colour\">>},[]}.", Some(true)),
        ("{'or',{'or',false,{'not_null',{'ident',<<\"void\">>}}},{'not',true}}.", Some(false)),
        ("{'=',{'ident',<<\"missing\">>},<<\"\\\"\\\\\">>}.", None),
        ("{'=',{'+',{'*',2,3},1},{'-',-7}}.", Some(true)),
        ("true", Some(true)),
    ] {
        let selector = Selector::parse_erlang(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(evaluate(&selector), expected, "{text}");
    }
    for (text, expected) in [
        ("", "at character 1: expected a term"),
        ("{foo, 1}.", "at character 1: 'foo' is no operator of so many operands"),
        ("{'=',1}.", "at character 1: '=' is no operator of so many operands"),
        ("{'=',1,2", "at character 9: expected ',' or '}'"),
        ("true. x", "at character 7: there is something behind the term"),
        ("{'=',os,2}.", "at character 6: expected a literal"),
        ("{'=',<<\"a,2}.", "at character 9: the quotation has no end"),
        ("{'in',1,[{'ident',<<\"a\">>}]}.", "at character 10: expected a literal"),
        ("{}", "at character 1: expected a tuple that begins with an operator"),
    ] {
        assert_eq!(Selector::parse_erlang(text).unwrap_err().to_string(), expected, "{text}");
    }
}

/// Texts that are selectors more often than not.
fn selectors() -> impl Strategy<Value = String> {
    let condition = prop::sample::select(vec![
        "yes",
        "no",
        "missing",
        "weight > 2500",
        "colour LIKE 'r%'",
        "void IS NULL",
        "colour IN ('red')",
        "weight = price",
    ]);
    condition.prop_map(str::to_owned).prop_recursive(4, 16, 2, |inner| {
        prop_oneof![
            inner.clone().prop_map(|text| format!("NOT ({text})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) AND ({b})")),
            (inner.clone(), inner).prop_map(|(a, b)| format!("({a}) OR ({b})")),
        ]
    })
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,60}") {
        let _ = Selector::parse(&text);
        let _ = Selector::parse_erlang(&text);
    }

    #[test]
    fn no_words_make_the_parser_panic(
        words in prop::collection::vec(
            prop::sample::select(vec![
                "a", "'b'", "1", "2.5", "(", ")", "NOT", "AND", "OR", "=", "<>", "-", "*", "IN", "LIKE", "BETWEEN",
                "IS", "NULL", "ESCAPE", ",", "{", "}", "'in'", "<<\"c\">>", "[", "]", "TRUE",
            ]),
            0..20,
        )
    ) {
        let text = words.join(" ");
        for selector in [Selector::parse(&text), Selector::parse_erlang(&words.concat())].into_iter().flatten() {
            evaluate(&selector);
        }
    }

    #[test]
    fn the_laws_of_logic_hold(a in selectors(), b in selectors()) {
        let value = |text: String| evaluate(&Selector::parse(&text).unwrap());
        prop_assert_eq!(value(format!("NOT NOT ({a})")), value(a.clone()));
        prop_assert_eq!(value(format!("NOT (({a}) AND ({b}))")), value(format!("NOT ({a}) OR NOT ({b})")));
        prop_assert_eq!(value(format!("({a}) AND ({b})")), value(format!("({b}) AND ({a})")));
        prop_assert_eq!(value(format!("({a}) OR ({a})")), value(a));
    }

    #[test]
    fn patterns_agree_with_a_naive_matcher(pattern in "[ab%_]{0,8}", text in "[ab]{0,10}") {
        let naive = naive(&pattern.chars().collect::<Vec<_>>(), &text.chars().collect::<Vec<_>>());
        prop_assert_eq!(like::Pattern::new(&pattern, None).unwrap().matches(&text), naive);
    }
}

fn naive(pattern: &[char], text: &[char]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some(('%', rest)), None) => naive(rest, text),
        (Some(('%', rest)), Some((_, after))) => naive(rest, text) || naive(pattern, after),
        (Some(('_', rest)), Some((_, after))) => naive(rest, after),
        (Some((wanted, rest)), Some((c, after))) => wanted == c && naive(rest, after),
        (Some(_), None) | (None, Some(_)) => false,
    }
}
