//! Prompts with random states, with and without a planted change.

use super::*;
use crate::stages::analysis::LayerVectors;
use crate::stages::statistics::draws::Draws;

const D: usize = 16;
const EMOTIONS: usize = 6;
const LAYER: Layer = Layer::Block(3);

fn shift(permutations: usize) -> Shift {
    let class =
        |name: &str| Class { name: name.into(), prompts: (0..10).map(|n| format!("{name} {n}")).collect() };
    Shift {
        base: "before".into(),
        tuned: "after".into(),
        vectors: Whose::Tuned,
        prompts: vec![class("neutral"), class("challenging")],
        wrap: Wrapped::Plain,
        layers: Layers::Default,
        resamples: 60,
        permutations,
    }
}

fn vectors() -> LayerVectors {
    let rows: Vec<f64> =
        (0..EMOTIONS).flat_map(|at| Draws::new("emotion", &[at as u64]).direction(D)).collect();
    LayerVectors {
        layer: LAYER,
        emotions: (0..EMOTIONS).map(|at| format!("e{at}")).collect(),
        d_model: D,
        vectors: rows.clone(),
        raw: rows,
        n_stories: vec![1; EMOTIONS],
        resid_norm: 1.0,
    }
}

/// A model's states on the prompts: a point for each prompt plus the model's noise; in the second model shifted along
/// the first emotion by `planted`.
fn table(shift: &Shift, seed: u64, model: u64, planted: f64) -> Table {
    let (mut id, mut label, mut values) = (Vec::new(), Vec::new(), Vec::new());
    let towards = Draws::new("emotion", &[0]).direction(D);
    for (c, class) in shift.prompts.iter().enumerate() {
        for (p, prompt) in class.prompts.iter().enumerate() {
            let mut own = Draws::new("prompt", &[seed, c as u64, p as u64]);
            let mut noise = Draws::new("model", &[seed, model, c as u64, p as u64]);
            let row = towards.iter().map(|u| own.normal() + 0.3 * noise.normal() + planted * u);
            values.extend(row.map(|x| x as f32));
            id.push(prompt.clone());
            label.push(Some(class.name.clone()));
        }
    }
    let rows = id.len();
    Table::new(
        "spans/1",
        vec![
            ("text_id", Column::Str(id)),
            ("label", Column::OptStr(label)),
            ("layer", Column::I32(vec![LAYER.number(); rows])),
            ("activation", Column::List { width: D, values, half: false }),
        ],
    )
}

fn run(shift: &Shift, tables: [Table; 2], seed: u64) -> Result<Tables> {
    let reads = tables.each_ref().map(|table| |_: usize| Ok(table.clone()));
    let none = |_: Layer, _: usize| anyhow::bail!("no activations");
    let nothing = |_: usize| anyhow::bail!("no stories");
    let side = |at: usize| Side {
        n_layers: 6,
        layers: vec![LAYER],
        vectors: &|_| Ok(vectors()),
        shards: 0,
        activations: &none,
        stories: &nothing,
        n_spans: 1,
        spans: &reads[at],
    };
    shift.run_on(Input { sides: [side(0), side(1)], model: None, seed, progress: &mut |_, _| {} })
}

/// On noise, the p-values of a change and of the similarity of both classes' changes are small at the stated rate.
#[test]
fn noise_changes_at_the_stated_rate() {
    let (shift, rounds) = (shift(39), 200);
    let (mut changed, mut alike, mut any) = (0, 0, 0);
    for seed in 0..rounds {
        let tables = run(&shift, [0, 1].map(|model| table(&shift, seed, model, 0.0)), seed).unwrap();
        changed += usize::from(tables[0].1.opt_f64("p").unwrap()[3].unwrap() <= 0.05);
        alike += usize::from(tables[1].1.opt_f64("p").unwrap()[2].unwrap() <= 0.05);
        any += usize::from(tables[0].1.f64("q").unwrap().iter().any(|&q| q <= 0.05));
    }
    // scipy.stats.binom.ppf([.001, .999], 200, .05) is 2 and 21. With 39 draws p is a multiple of 1/40, and at most
    // .05 for the two smallest values.
    for found in [changed, alike] {
        assert!((2..=21).contains(&found), "{changed} {alike}");
    }
    assert!(any <= 21, "{any}");
}

#[test]
fn what_is_planted_is_found() {
    let shift = shift(999);
    let tables = run(&shift, [table(&shift, 1, 0, 0.0), table(&shift, 1, 1, 2.0)], 0).unwrap();
    let (changes, tests) = (&tables[0].1, &tables[1].1);
    let (value, q) = (changes.f64("value").unwrap(), changes.f64("q").unwrap());
    for class in 0..2 {
        let at = class * EMOTIONS;
        assert_eq!(changes.str("emotion").unwrap()[at], "e0");
        assert!(value[at] > 0.25 && q[at] <= 0.05, "{value:?} {q:?}");
        assert!((1..EMOTIONS).all(|e| value[at + e] < value[at]));
        let ends =
            [changes.opt_f64("low").unwrap()[at].unwrap(), changes.opt_f64("high").unwrap()[at].unwrap()];
        assert!(ends[0] < value[at] && value[at] < ends[1]);
    }
    let what = tests.str("what").unwrap();
    assert_eq!(
        what,
        [
            "r between the models, neutral",
            "r between the models, challenging",
            "r of the changes, neutral and challenging"
        ]
    );
    let (r, p, ceiling) =
        (tests.f64("value").unwrap(), tests.opt_f64("p").unwrap(), tests.opt_f64("ceiling").unwrap());
    assert!(r[2] > 0.9 && p[2].unwrap() <= 0.01 && ceiling[2].unwrap() > 0.9, "{r:?} {p:?} {ceiling:?}");
}

/// The first change against the definition, in plain loops.
#[test]
fn a_change_is_the_mean_difference_of_cosines_by_hand() {
    let shift = shift(1);
    let both = [0, 1].map(|model| table(&shift, 7, model, 1.0));
    let direction = Draws::new("emotion", &[0]).direction(D);
    let cosines = both.each_ref().map(|table| {
        let (_, values) = table.list("activation").unwrap();
        let one = |row: &[f32]| {
            let (mut product, mut square) = (0.0, 0.0);
            for (&x, u) in row.iter().zip(&direction) {
                product += f64::from(x) * u;
                square += f64::from(x) * f64::from(x);
            }
            product / square.sqrt()
        };
        values.chunks_exact(D).take(10).map(one).sum::<f64>() / 10.0
    });
    let tables = run(&shift, both, 0).unwrap();
    let column = |name: &str| tables[0].1.f64(name).unwrap()[0];
    for (got, want) in [
        (column("base"), cosines[0]),
        (column("tuned"), cosines[1]),
        (column("value"), cosines[1] - cosines[0]),
    ] {
        assert!((got - want).abs() < 1e-9, "{got} {want}");
    }
}

#[test]
fn models_that_read_other_prompts_are_refused() {
    let shift = shift(1);
    let all: Vec<usize> = (0..18).collect();
    let error =
        run(&shift, [table(&shift, 1, 0, 0.0), table(&shift, 1, 1, 0.0).select(&all)], 0).unwrap_err();
    assert!(
        format!("{error:#}")
            .contains("class `challenging`: 10 prompts were read by `before` and 8 by `after`"),
        "{error:#}"
    );
}
