//! Drafts with scripted replies.

use super::*;
use crate::stages::stories::{Reject, Several, rows};

fn params() -> Generate {
    Generate {
        topics: vec!["a {odd} bus".into(), "rain".into()],
        per_topic: 2,
        max_new_tokens: 8,
        temperature: 1.0,
        top_p: 1.0,
        top_k: 0,
        prompt: "About {topic}: a {emotion} person.".into(),
        system: String::new(),
        several: None,
        reject: Reject {
            names_emotion: true,
            min_tokens: 0,
            attempts: 2,
            refusals: true,
            cut: false,
            near_duplicate: None,
        },
    }
}

/// Five stories of one topic, up to three in a reply.
fn several() -> Generate {
    Generate {
        topics: vec!["rain".into()],
        per_topic: 5,
        prompt: "{count} stories of {topic} in the {person}: {emotion}.".into(),
        several: Some(Several { per_reply: 3, separator: "---".into() }),
        ..params()
    }
}

fn seeds() -> Seeds {
    Seeds { run: 1, writer: "w".into() }
}

fn whole(text: &str) -> Reply {
    Reply { text: text.into(), end: End::Whole }
}

/// Counts words in place of tokens.
fn words(text: &str) -> Result<usize> {
    Ok(text.split_whitespace().count())
}

/// Attempt after attempt, applies `replies` to the requests in their order; returns the tables and every attempt's
/// requests.
fn write(params: &Generate, emotions: &[&str], replies: &[&[Reply]]) -> (Written, Vec<Vec<Ask>>) {
    let emotions: Vec<String> = emotions.iter().map(|e| e.to_string()).collect();
    let (items, seeds) = (items(params, Some(&emotions)), seeds());
    let mut draft = Draft::new(params, &items, &seeds, "tester");
    let mut asked = Vec::new();
    for (attempt, replies) in replies.iter().enumerate() {
        let asks = draft.asks(attempt);
        assert_eq!(asks.len(), replies.len(), "{asks:?}");
        for (ask, reply) in asks.iter().zip(*replies) {
            draft.take(attempt, ask, reply, &words).unwrap();
        }
        asked.push(asks);
    }
    (draft.written(), asked)
}

/// The rejected texts with their index, attempt and reason.
fn rejected(written: &Written) -> Vec<(i32, i32, &str, &str)> {
    let table = &written.rejected;
    let (index, attempt) = (table.i32("index").unwrap(), table.i32("attempt").unwrap());
    let (reason, text) = (table.str("reason").unwrap(), table.str("text").unwrap());
    (0..table.rows()).map(|i| (index[i], attempt[i], reason[i].as_str(), text[i].as_str())).collect()
}

#[test]
fn items_go_emotion_by_emotion_and_fill_the_prompt() {
    let emotions = ["sad".to_string(), "angry".to_string()];
    let items = items(&params(), Some(&emotions));
    let places: Vec<_> = items.iter().map(|i| (i.emotion.as_deref().unwrap(), i.index)).collect();
    assert_eq!(places[..5], [("sad", 0), ("sad", 1), ("sad", 0), ("sad", 1), ("angry", 0)]);
    assert_eq!(prompt(&params(), &items[4], 1), "About a {odd} bus: an angry person.");
    assert_eq!(super::items(&params(), None).len(), 4);
}

#[test]
fn seeds_differ_in_every_part_and_stay_the_same() {
    let item = |emotion: Option<&str>, topic: &str, index| Item {
        emotion: emotion.map(String::from),
        other: None,
        topic: Some(topic.into()),
        index,
    };
    let seeds = |run, writer: &str| Seeds { run, writer: writer.into() };
    let base = seeds(1, "w").seed(&item(Some("sad"), "rain", 0), 0);
    let others = [
        seeds(2, "w").seed(&item(Some("sad"), "rain", 0), 0),
        seeds(1, "v").seed(&item(Some("sad"), "rain", 0), 0),
        seeds(1, "w").seed(&item(Some("glad"), "rain", 0), 0),
        seeds(1, "w").seed(&item(None, "rain", 0), 0),
        seeds(1, "w").seed(&item(Some("sad"), "sun", 0), 0),
        seeds(1, "w").seed(&item(Some("sad"), "rain", 1), 0),
        seeds(1, "w").seed(&item(Some("sad"), "rain", 0), 1),
    ];
    assert!(others.iter().all(|seed| *seed != base));
    // Python: int.from_bytes(sha256(b"".join(b"\x01" + len(p).to_bytes(8, "little") + p
    //     for p in [b"1", b"w", b"sad", b"rain", b"0", b"0"])).digest()[:8], "little")
    assert_eq!(base, 3_873_946_500_096_731_043);
}

#[test]
fn one_story_a_request_and_what_is_refused_is_asked_for_again() {
    let params = Generate { topics: vec!["rain".into()], per_topic: 5, ..params() };
    let params = Generate { reject: Reject { min_tokens: 2, ..params.reject.clone() }, ..params };
    let first = ["It rained.", "How sad it was.", "Rain.", "  ", "I cannot write a story."].map(whole);
    let (written, asked) =
        write(&params, &["sad"], &[&first, &["It poured.", "No.", "It ended.", "It thawed."].map(whole)]);
    assert_eq!(asked[0].iter().map(|ask| ask.places.clone()).collect::<Vec<_>>(), [[0], [1], [2], [3], [4]]);
    assert_eq!(asked[1].iter().map(|ask| ask.places[0]).collect::<Vec<_>>(), [1, 2, 3, 4]);
    let numbers: Vec<usize> = asked.iter().flatten().map(|ask| ask.number).collect();
    assert_eq!(numbers, (0..9).collect::<Vec<_>>());
    let items = items(&params, Some(&["sad".into()]));
    assert_eq!(asked[1][2].seed, seeds().seed(&items[3], 1));
    assert_eq!(
        rejected(&written),
        [
            (1, 0, "names_emotion", "How sad it was."),
            (2, 0, "too_short", "Rain."),
            (3, 0, "empty", ""),
            (4, 0, "refusal", "I cannot write a story."),
            (2, 1, "too_short", "No."),
        ]
    );
    let stories = rows(&written.stories).unwrap();
    let told: Vec<_> = stories.iter().map(|s| (s.index, s.text.as_str(), s.rejected)).collect();
    assert_eq!(told, [(0, "It rained.", 0), (1, "It poured.", 1), (3, "It ended.", 1), (4, "It thawed.", 1)]);
    assert!(stories.iter().all(|s| s.writer == "tester" && s.topic.as_deref() == Some("rain")));
    assert_eq!(stories[1].seed, Some(asked[1][0].seed));
    assert_eq!(written.rejected.opt_i64("seed").unwrap()[4], Some(asked[1][1].seed as i64));
    assert_eq!(written.rejected.opt_str("emotion").unwrap()[0].as_deref(), Some("sad"));
}

#[test]
fn a_line_that_introduces_the_story_is_none_of_it() {
    let params = Generate { topics: vec!["rain".into()], per_topic: 1, ..params() };
    let reply = whole("Sure! Here's a short story about rain:\n\nHere is the sea: it rained.");
    let (written, _) = write(&params, &["calm"], &[&[reply]]);
    assert_eq!(written.stories.str("text").unwrap(), ["Here is the sea: it rained."]);
}

#[test]
fn a_request_for_several_holds_one_emotion_and_topic() {
    let three = whole("A.\n---\nB.\n---\nC.");
    let (written, asked) = write(
        &several(),
        &["sad", "calm"],
        &[&[three.clone(), whole("D.\n---\nHow sad."), whole("E."), whole("F.\n---\nG.\n---\nH.")]],
    );
    let places: Vec<_> = asked[0].iter().map(|ask| ask.places.clone()).collect();
    assert_eq!(places, [vec![0, 1, 2], vec![3, 4], vec![5, 6, 7], vec![8, 9]]);
    let prompts: Vec<_> = asked[0].iter().map(|ask| ask.prompt.as_str()).collect();
    assert_eq!(
        prompts,
        [
            "3 stories of rain in the first person: sad.",
            "2 stories of rain in the third person: sad.",
            "3 stories of rain in the first person: calm.",
            "2 stories of rain in the third person: calm.",
        ]
    );
    let told: Vec<_> =
        rows(&written.stories).unwrap().iter().map(|s| (s.index, s.text.clone(), s.seed)).collect();
    let seed = |ask: usize| Some(asked[0][ask].seed);
    let want = [
        (0, "A.", seed(0)),
        (1, "B.", seed(0)),
        (2, "C.", seed(0)),
        (3, "D.", seed(1)),
        (0, "E.", seed(2)),
        (3, "F.", seed(3)),
        (4, "G.", seed(3)),
    ];
    assert_eq!(told, want.map(|(index, text, seed)| (index, text.to_string(), seed)));
    // The surplus text has no item of its own: it is recorded under the first item of its request.
    assert_eq!(rejected(&written), [(4, 0, "names_emotion", "How sad."), (3, 0, "surplus", "H.")]);
}

#[test]
fn what_a_reply_lacks_is_asked_for_again() {
    let cut = |text: &str| Reply { text: text.into(), end: End::Cut };
    let (written, asked) = write(
        &several(),
        &["sad"],
        &[
            // The last text of a reply that was cut is incomplete, unless a separator follows it.
            &[cut("A.\n---\nB.\n---\nAnd th"), cut("D.\n---\nE.\n---\n")],
            &[cut("<think>Rain.</think>Story 3:\nC and no e")],
        ],
    );
    assert_eq!(asked[1].iter().map(|ask| ask.places.clone()).collect::<Vec<_>>(), [[2]]);
    assert_eq!(asked[1][0].prompt, "1 stories of rain in the first person: sad.");
    assert_eq!(asked[1][0].number, 2);
    assert_eq!(written.stories.str("text").unwrap(), ["A.", "B.", "C and no e", "D.", "E."]);
    assert_eq!(rejected(&written), [(2, 0, "cut", "And th")]);

    // Missing stories that are not neighbours also share a request, unless their topics differ.
    let params = Generate { topics: vec!["rain".into(), "snow".into()], per_topic: 3, ..several() };
    let sad = whole("How sad.\n---\nB.\n---\nSadly.");
    let (_, asked) = write(&params, &["sad"], &[&[sad.clone(), sad], &[whole("A."), whole("<think>Hm")]]);
    assert_eq!(asked[1].iter().map(|ask| ask.places.clone()).collect::<Vec<_>>(), [[0, 2], [3, 5]]);
    assert_eq!(asked[1][0].prompt, "2 stories of rain in the first person: sad.");
}

#[test]
fn a_reply_without_text_is_recorded_as_it_came() {
    let (written, _) = write(&several(), &["sad"], &[&[whole("---\n---"), whole(" <think>Hm")]]);
    assert_eq!(rejected(&written), [(0, 0, "empty", "---\n---"), (3, 0, "thought", "<think>Hm")]);
    assert_eq!(written.stories.rows(), 0);
}

#[test]
fn near_duplicates_of_accepted_stories_are_refused() {
    let reject = |near_duplicate| Reject { near_duplicate, ..params().reject };
    let params =
        |near| Generate { topics: vec!["rain".into()], per_topic: 4, reject: reject(near), ..params() };
    // The second shares two of four 3-grams with the first: 0.5. The third shares three of four with the second: 0.75,
    // and two of five with the first: 0.4.
    let replies = ["a b c d e", "a b c d f", "x a b c d f", "sad a b q"].map(whole);
    let (written, _) = write(&params(Some(0.5)), &["sad"], &[&replies]);
    assert_eq!(written.stories.str("text").unwrap(), ["a b c d e", "x a b c d f"]);
    assert_eq!(rejected(&written)[0], (1, 0, "near_duplicate", "a b c d f"));
    let (written, _) = write(&params(Some(0.51)), &["sad"], &[&replies]);
    assert_eq!(rejected(&written)[0], (2, 0, "near_duplicate", "x a b c d f"));
    let (written, _) = write(&params(None), &["sad"], &[&replies]);
    assert_eq!(written.stories.rows(), 3);
}

#[test]
fn a_rule_that_is_off_refuses_nothing() {
    let reject = Reject { names_emotion: false, refusals: false, ..params().reject };
    let params = Generate { topics: vec!["rain".into()], reject, ..params() };
    let (written, _) = write(&params, &["sad"], &[&["So sad.", "I cannot write a story."].map(whole)]);
    assert_eq!(written.stories.rows(), 2);
    assert_eq!(written.rejected.rows(), 0);
}

#[test]
fn replies_come_back_from_their_table() {
    let replies = [whole("It rained.\n---\nIt snowed."), Reply { text: String::new(), end: End::Cut }];
    let ask = |prompt: &str, seed| Ask { places: vec![0], prompt: prompt.to_string(), seed, number: 0 };
    let asks = [ask("of rain", 1), ask("of snow", 2)];
    let kept = Reply::table(&asks, &replies);
    assert_eq!(Reply::rows(&kept, &asks).unwrap(), replies);
    // The same number of replies, to other requests or in another order.
    assert_eq!(Reply::rows(&kept, &[ask("of rain", 1), ask("of snow", 3)]), None);
    assert_eq!(Reply::rows(&kept, &[asks[1].clone(), asks[0].clone()]), None);
    assert_eq!(Reply::rows(&kept, &asks[..1]), None);
}
