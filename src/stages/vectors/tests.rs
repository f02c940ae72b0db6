//! Vectors and neutral components against hand calculations.

use super::*;

fn params(denoise: Denoise) -> Params {
    Params { center: Center::Emotions, denoise, normalize: false, weights: Equal::Stories, tokens: None }
}

fn activations(rows: &[(Option<&str>, [f32; 3])]) -> Table {
    let n = rows.len();
    Table::new(
        "activations/1",
        vec![
            ("emotion", Column::OptStr(rows.iter().map(|r| r.0.map(String::from)).collect())),
            ("topic", Column::OptStr(vec![None; n])),
            ("layer", Column::I32(vec![7; n])),
            ("activation", list(3, rows.iter().flat_map(|r| r.1).collect())),
            ("token_norm", Column::F32((0..n).map(|at| 10.0 + at as f32).collect())),
            ("token_norm_rest", Column::F32((0..n).map(|at| 1.0 + at as f32).collect())),
        ],
    )
}

fn run(params: &Params, shards: &[Table], emotions: &[String], neutral: Option<&Table>) -> Result<Table> {
    super::run(params, shards.iter().cloned().map(Ok), emotions, neutral)
}

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|w| w.to_string()).collect()
}

#[test]
fn means_minus_the_mean_of_means_by_hand() {
    let shards = [
        activations(&[(Some("sad"), [3.0, 0.0, 4.0]), (Some("happy"), [0.0, 5.0, 0.0])]),
        activations(&[]),
        activations(&[(Some("sad"), [0.0, 3.0, 0.0]), (Some("bored"), [9.0, 9.0, 9.0])]),
    ];
    let table = run(&params(Denoise::None), &shards, &words(&["happy", "sad"]), None).unwrap();
    // sad: (1.5, 1.5, 2), happy: (0, 5, 0), mean of means (.75, 3.25, 1); norms 5, 5, 3.
    assert_eq!(table.list("vector").unwrap(), (3, &[-0.75, 1.75, -1.0, 0.75, -1.75, 1.0][..]));
    assert_eq!(table.list("raw").unwrap(), table.list("vector").unwrap());
    assert_eq!(table.i32("n_stories").unwrap(), [1, 2]);
    assert_eq!(table.i32("layer").unwrap(), [7, 7]);
    assert_eq!(table.f32("pooled_norm").unwrap(), [13.0f32 / 3.0; 2]);
    // Pooled tokens: 10 and 11 of the first story of each emotion, 10 of the story in the last shard.
    assert_eq!(table.f32("resid_norm").unwrap(), [31.0f32 / 3.0; 2]);
    assert_eq!(table.f32("rest_norm").unwrap(), [4.0f32 / 3.0; 2]);
}

/// Emotions without any effect, on two distant topics; on one topic most stories of `a` were rejected, on the other
/// most of `b`.
#[test]
fn topics_do_not_leak_where_every_topic_counts_alike() {
    let rows = [("a", "rain", 1), ("a", "snow", 9), ("b", "rain", 9), ("b", "snow", 1)];
    let rows: Vec<(&str, &str)> = rows.iter().flat_map(|&(e, t, n)| vec![(e, t); n]).collect();
    let mut table = activations(
        &rows
            .iter()
            .map(|&(e, t)| (Some(e), [1.0, if t == "rain" { 10.0 } else { 0.0 }, 0.0]))
            .collect::<Vec<_>>(),
    );
    let topics = Column::OptStr(rows.iter().map(|(_, topic)| Some(topic.to_string())).collect());
    table.columns.iter_mut().filter(|(name, _)| name == "topic").for_each(|(_, c)| *c = topics.clone());
    let vectors = |weights| {
        let params = Params { weights, ..params(Denoise::None) };
        let table = run(&params, std::slice::from_ref(&table), &words(&["a", "b"]), None).unwrap();
        assert_eq!(table.i32("n_stories").unwrap(), [10, 10]);
        table.list("vector").unwrap().1.to_vec()
    };
    // Means over stories are (1, 1, 0) and (1, 9, 0); those over topics (1, 5, 0) both.
    assert_eq!(vectors(Equal::Stories), [0.0, -4.0, 0.0, 0.0, 4.0, 0.0]);
    assert_eq!(vectors(Equal::Topics), [0.0; 6]);
    // Stories without a topic count alone, next to those that have one.
    let topics: Vec<_> = rows.iter().map(|(_, t)| (*t == "snow").then(|| t.to_string())).collect();
    table
        .columns
        .iter_mut()
        .filter(|(n, _)| n == "topic")
        .for_each(|(_, c)| *c = Column::OptStr(topics.clone()));
    let params = Params { weights: Equal::Topics, center: Center::None, ..params(Denoise::None) };
    let table = run(&params, std::slice::from_ref(&table), &words(&["a", "b"]), None).unwrap();
    // One story of 10 and one topic with mean 0; nine stories of 10 and one topic with mean 0.
    assert_eq!(table.list("vector").unwrap().1, [1.0, 5.0, 0.0, 1.0, 9.0, 0.0]);
}

#[test]
fn neutral_components_are_projected_out() {
    // Neutral text varies along (0, .6, .8) (variance 50) and (1, 0, 0) (variance 8).
    let n = |x, y, z| (None, [x, y, z]);
    let neutral_rows =
        [activations(&[n(1.0, 3.0, 4.0), n(1.0, -3.0, -4.0), n(3.0, 0.0, 0.0), n(-1.0, 0.0, 0.0)])];
    let shards = [activations(&[(Some("a"), [2.0, 5.0, 5.0]), (Some("b"), [0.0, -5.0, -5.0])])];
    let check = |denoise, removed: &[bool], wanted: [f32; 3]| {
        let params = params(denoise);
        let neutral = neutral(&params, &neutral_rows).unwrap();
        assert_eq!(neutral.bool("removed").unwrap(), removed);
        assert_eq!(neutral.i32("component").unwrap(), [1, 2]);
        for (got, want) in
            neutral.f32("explained_variance_ratio").unwrap().iter().zip([50.0 / 58.0, 8.0 / 58.0])
        {
            assert!((got - want).abs() < 1e-6);
        }
        let table = run(&params, &shards, &words(&["a", "b"]), Some(&neutral)).unwrap();
        for (got, want) in table.list("vector").unwrap().1.iter().zip(wanted) {
            assert!((got - want).abs() < 1e-5, "{got} is not {want}");
        }
        assert_eq!(table.list("raw").unwrap().1[..3], [1.0, 5.0, 5.0]);
    };
    // a is (1, 5, 5) after centring; its component along (0, .6, .8) is 7.
    check(Denoise::Components(1), &[true, false], [1.0, 0.8, -0.6]);
    check(Denoise::Components(2), &[true, true], [0.0, 0.8, -0.6]);
    check(Denoise::Variance(0.5), &[true, false], [1.0, 0.8, -0.6]);
    check(Denoise::Variance(0.9), &[true, true], [0.0, 0.8, -0.6]);
    check(Denoise::Variance(1.0), &[true, true], [0.0, 0.8, -0.6]);
    let error = neutral(&params(Denoise::Components(3)), &neutral_rows).unwrap_err().to_string();
    assert!(error.contains("removes 3") && error.contains("only 2"), "{error}");
}

#[test]
fn normalised_vectors_have_unit_length() {
    let shards = [activations(&[(Some("a"), [6.0, 8.0, 0.0]), (Some("b"), [0.0, 0.0, 0.0])])];
    let params = Params { normalize: true, ..params(Denoise::None) };
    let table = run(&params, &shards, &words(&["a", "b"]), None).unwrap();
    assert_eq!(table.list("vector").unwrap().1[..3], [0.6, 0.8, 0.0]);
    assert_eq!(table.list("raw").unwrap().1[..3], [3.0, 4.0, 0.0]);
    let params = Params { center: Center::None, ..params };
    assert!(
        run(&params, &shards, &words(&["a", "b"]), None).unwrap_err().to_string().contains("`b` is zero")
    );
}

#[test]
fn what_is_missing_is_named() {
    let shards = [activations(&[(Some("a"), [1.0, 0.0, 0.0])])];
    let check = |denoise, shards: &[Table], wanted: &str| {
        let error = run(&params(denoise), shards, &words(&["a", "b"]), None).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    };
    check(Denoise::None, &shards, "`b` has no story at layer 7");
    check(Denoise::None, &[activations(&[])], "every one is too short");
    check(Denoise::Components(1), &shards, "needs the components");
}
