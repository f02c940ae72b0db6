//! Readings computed by hand.

use super::super::tests::set;
use super::*;
use crate::lm::Layer;

/// Four situations (the last two imply the same emotion) with three emotions, one of which is not implied by any.
fn tables() -> Vec<(String, Table)> {
    let set = set(&["a"], &[&[1.0]]);
    let mut places = Places::default();
    let implied = ["a", "b", "c", "c"];
    let raw = [[0.5, 0.1, 0.2, 0.9], [0.6, 0.1, 0.3, 0.0], [0.7, 0.2, 0.4, 0.1], [0.5, 0.1, 0.5, 0.6]];
    let mean = |e: usize| raw.iter().map(|of| of[e]).sum::<f64>() / 4.0;
    let (mut numbers, mut of, mut emotions) = (vec![], vec![], vec![]);
    let (mut cosines, mut centred) = (vec![], vec![]);
    for (at, values) in raw.iter().enumerate() {
        for (e, emotion) in ["a", "b", "c", "d"].into_iter().enumerate() {
            places.push(&set, Layer::Block(3));
            numbers.push(at as i32 + 1);
            of.push(implied[at].to_string());
            emotions.push(emotion.to_string());
            cosines.push(values[e]);
            centred.push(values[e] - mean(e));
        }
    }
    let columns = vec![
        ("situation", Column::I32(numbers)),
        ("implied", Column::Str(of)),
        ("emotion", Column::Str(emotions)),
        ("cosine", Column::F64(cosines)),
        ("centred", Column::F64(centred)),
    ];
    vec![("implicit".into(), places.table("implicit/1", columns))]
}

fn params() -> Implicit {
    let situation = |(text, emotion): (&str, &str)| Situation { text: text.into(), emotion: emotion.into() };
    let list = [("One.", "a"), ("Two.", "b"), ("Three.", "c"), ("Four.", "c"), ("Five.", "z")];
    Implicit { situations: list.map(situation).to_vec(), wrap: ReadAt::User }
}

#[test]
fn scores_by_hand() {
    let tables = tables();
    let groups = groups(&tables, "implicit").unwrap();
    let read = Readings::of(&groups[0]).unwrap();
    assert_eq!(read.probes, ["a", "b", "c"]);
    assert_eq!(read.of_all, [2, 3, 2, 2]);
    // With raw cosines all are nearest to a; the fourth is as near to c, and ties go to the first.
    let raw = read.score(&read.raw);
    assert_eq!((raw.nearest, raw.ranks, raw.hits, raw.mean_rank), (vec![0; 4], vec![1, 3, 2, 1], 1, 1.75));
    // One label a is assigned among four places that all chose a: always exactly one hit.
    assert!((raw.p - 1.0).abs() < 1e-12);
    // Means: a .575, b .125, c .35. Centred: (-.075, -.025, -.15), (.025, -.025, -.05), (.125, .075, .05),
    // (-.075, -.025, .15).
    let centred = read.score(&read.centred);
    assert_eq!((centred.nearest, centred.ranks), (vec![1, 0, 0, 2], vec![2, 2, 3, 1]));
    assert_eq!((centred.hits, centred.mean_rank), (1, 2.0));
    // Labels a, b, c, c at places that chose b, a, a, c. Of the twelve assignments three have no hit: a is first or
    // last. First: b, c, c on a, a, c with c not last: c c b (1). Last: b, c, c on b, a, a with b not first: c b c, c
    // c b (2).
    assert!((centred.p - 9.0 / 12.0).abs() < 1e-12, "{}", centred.p);
}

#[test]
fn figures_say_what_was_left_out() {
    let figures = params().figures("daily", &tables()).unwrap();
    let names: Vec<_> = figures.iter().map(|f| f.name.as_str()).collect();
    assert_eq!(names, ["daily-centred", "daily-raw", "daily-situations"]);
    assert!(figures[0].caption.contains("the situations of z"), "{}", figures[0].caption);
    assert!(figures[0].caption.contains("nearest in 1 of 4 (p = 1.00"), "{}", figures[0].caption);
    let Body::Table(table) = &figures[2].body else { panic!() };
    let text = |t: &str| Cell::Text(t.into());
    let number = |n: f64| Cell::Number(n, 0);
    let wanted = [text("Two."), text("b"), text("a"), number(3.0), text("a"), number(2.0), number(3.0)];
    assert_eq!(table.rows[1], wanted);
    let Body::Heatmap(map) = &figures[1].body else { panic!() };
    assert_eq!((map.rows.len(), map.columns.len(), map.values[4]), (4, 3, 0.1));
}

#[test]
fn claims_by_hand() {
    let claims = params().claims(&tables()).unwrap();
    let values: Vec<f64> = claims.iter().map(|c| c.estimate).collect();
    assert_eq!(values[..2], [25.0, 1.75]);
    assert_eq!(values[2..4], [25.0, 2.0]);
    // scipy.stats.beta.ppf(.025, 1, 4) and ppf(.975, 2, 3)
    let ends = claims[0].ends().unwrap();
    assert!((ends.low - 0.6309463).abs() < 1e-6 && (ends.high - 80.5879550).abs() < 1e-6, "{ends:?}");
    assert_eq!(claims[2].p(), Some(9.0 / 12.0));
    // Four situations, where the paper has twelve.
    assert!(claims.iter().all(|c| c.published.iter().all(|p| !p.but.is_empty())));
}
