use super::*;

fn transfer(tokens: &[(u64, Hops)], outcome: Outcome) -> Transfer {
    Transfer { run: 0, branch: None, tokens: tokens.to_vec(), outcome, was_prepared: false }
}

fn verdict(transfers: &[Transfer], left: &[(u64, Hops)]) -> Verdict<Counts> {
    let history = History { tokens: 2, transfers: transfers.to_vec(), left: left.to_vec(), ..History::default() };
    check(&history, &Counts::default())
}

#[test]
fn what_was_promised_and_what_nobody_knows_is_clean() {
    let transfers = [
        transfer(&[(0, 1), (1, 1)], Outcome::Committed),
        transfer(&[(0, 2)], Outcome::RolledBack),
        transfer(&[(0, 2)], Outcome::Unknown),
    ];
    verdict(&transfers, &[(0, 1), (1, 1)]).assert_clean();
    verdict(&transfers, &[(0, 2), (1, 1)]).assert_clean();
}

#[test]
fn each_broken_promise_is_found() {
    let transfers = [transfer(&[(0, 1), (1, 1)], Outcome::Committed), transfer(&[(0, 2)], Outcome::RolledBack)];
    assert!(verdict(&transfers, &[(0, 1)]).has(Kind::Lost), "a token is gone");
    assert!(verdict(&transfers, &[(0, 0), (1, 1)]).has(Kind::Lost), "a commit is gone");
    assert!(verdict(&transfers, &[(0, 1), (0, 0), (1, 1)]).has(Kind::Doubled), "it was taken, and is there still");
    assert!(verdict(&transfers, &[(0, 2), (1, 1)]).has(Kind::Phantom), "what was rolled back is there");
    assert!(verdict(&transfers, &[(0, 1), (1, 1), (7, 0)]).has(Kind::Phantom), "nobody knows the token");
    let mut history = History { forgotten: vec![b"one".to_vec()], ..History::default() };
    assert!(check(&history, &Counts::default()).has(Kind::Transaction));
    history = History { invented: vec![b"one".to_vec()], ..History::default() };
    assert!(check(&history, &Counts::default()).has(Kind::Transaction));
    assert!(check(&History::default(), &Counts { kills: 1, ..Counts::default() }).has(Kind::Vacuous));
}
