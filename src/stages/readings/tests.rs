//! Readings of the fixture models against products of the residual stream computed one by one; directions; windows.

use super::*;
use crate::lm::{Batch, Capture, Checkpoint, Dtype, Message, Role};
use crate::stages::analysis::LayerVectors;
use tch::Device;

fn model(name: &str) -> LanguageModel {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    let checkpoint = Checkpoint::open(&folder).unwrap();
    LanguageModel::load(&checkpoint, Dtype::F32, Device::Cpu).unwrap()
}

/// Two random emotion vectors at two layers.
fn set(d: usize) -> VectorSet {
    let layer = |number: usize| {
        let vectors: Vec<f64> = (0..2)
            .flat_map(|e| Draws::new("vector", &[number as u64, e]).direction(d))
            .map(|x| 3.0 * x)
            .collect();
        LayerVectors {
            layer: Layer::Block(number),
            emotions: vec!["sad".into(), "glad".into()],
            d_model: d,
            raw: vectors.clone(),
            vectors,
            n_stories: vec![1; 2],
            resid_norm: 1.0,
        }
    };
    VectorSet { model: "m".into(), stories: "s".into(), n_layers: 3, layers: vec![layer(0), layer(1)] }
}

fn params(random: usize) -> Params {
    Params { random, seed: 3, wrap: Wrap::Raw, chat: Chat::default() }
}

fn plain(id: &str, text: &str) -> Text {
    Text {
        id: id.into(),
        said: rows::Said::Plain(text.into()),
        label: None,
        place: String::new(),
        event: None,
        labels: None,
    }
}

fn activations(d: usize) -> Table {
    let values =
        (0..40).flat_map(|n| Draws::new("activation", &[n]).direction(d)).map(|x| x as f32).collect();
    Table::new("activations/1", vec![("activation", Column::List { width: d, values, half: false })])
}

/// Each product is computed from the residual at that token alone, and does not depend on the other texts of a batch.
#[test]
fn readings_are_products_of_each_token_and_batches_change_none() {
    let model = model("llama-gqa");
    let d = model.spec.d_model;
    let set = set(d);
    let directions = directions(&set, &params(2), &|_| Ok(vec![activations(d)])).unwrap();
    let texts =
        [plain("a", "The rain sang to the old map."), plain("b", "A key."), plain("c", "Mara laughs.")];
    let read = |texts: &[Text]| {
        let [table, unread] = run(texts, &set, &directions, &params(2), &model, &mut |_, _| {}).unwrap();
        assert_eq!(unread.rows(), 0);
        table
    };
    let all = read(&texts);
    let (width, values) = all.list("reading").unwrap();
    assert_eq!(width, 4);
    let (mut row, mut worst) = (0, 0.0f64);
    for text in &texts {
        let rows::Said::Plain(said) = &text.said else { unreachable!() };
        let ids = model.encode(said).unwrap().ids;
        let alone = read(std::slice::from_ref(text));
        let (_, alone) = alone.list("reading").unwrap();
        for (at, layer) in set.layers.iter().enumerate() {
            for token in 0..ids.len() {
                let batch = Batch::new(&[&ids]).unwrap();
                let mut capture = Capture::new(&[layer.layer], vec![token..token + 1]);
                let _ =
                    model.forward(&batch, &mut [&mut capture as &mut dyn Hook], Some(layer.layer)).unwrap();
                let resid = Vec::<f32>::try_from(capture.finish().unwrap().reshape(-1)).unwrap();
                for (direction, unit) in directions[at].chunks_exact(d).enumerate() {
                    let want: f64 = resid.iter().zip(unit).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
                    let got = f64::from(values[row * width + direction]);
                    worst = worst.max((got - want).abs() / (1.0 + want.abs()));
                }
                let here = at * ids.len() + token;
                let (own, batched) = (&alone[here * width..][..width], &values[row * width..][..width]);
                let near = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-5 * (1.0 + b.abs());
                assert!(own.iter().zip(batched).all(near), "{own:?} {batched:?}");
                row += 1;
            }
        }
    }
    assert_eq!(row, all.rows());
    assert!(worst < 1e-5, "{worst}");
    // The tokenizer itself adds the BOS.
    assert_eq!(all.i32("turn").unwrap()[..2], [TEMPLATE, 0]);
}

#[test]
fn random_directions_have_the_covariance_of_the_activations() {
    // Activations with ten times the spread along the first entry as along the others, far from the origin.
    const D: usize = 6;
    let mut draws = Draws::new("spread", &[]);
    let values: Vec<f32> =
        (0..600 * D).map(|i| (50.0 + draws.normal() * if i % D == 0 { 10.0 } else { 1.0 }) as f32).collect();
    let table =
        Table::new("activations/1", vec![("activation", Column::List { width: D, values, half: false })]);
    let drawn = random(&[table], D, &params(300), Layer::Block(0)).unwrap();
    let second = |at: usize| drawn.chunks_exact(D).map(|row| row[at] * row[at]).sum::<f64>() / 300.0 / 600.0;
    // Variances 100 and 1, each estimated to within about a tenth.
    assert!((70.0..130.0).contains(&second(0)), "{}", second(0));
    assert!((1..D).all(|at| (0.7..1.3).contains(&second(at))));
    let own = random(&[activations(D)], D, &params(2), Layer::Block(0)).unwrap();
    assert_eq!(own[..D], random(&[activations(D)], D, &params(1), Layer::Block(0)).unwrap()[..]);
}

/// A text longer than the context is read in windows: tokens of the first window read as in a text that ends there.
#[test]
fn texts_longer_than_the_context_are_read_to_their_end() {
    let model = model("llama-gqa");
    let (d, context) = (model.spec.d_model, model.spec.context);
    let set = set(d);
    let directions = directions(&set, &params(0), &|_| unreachable!()).unwrap();
    let long = plain("a", &"The rain sang. ".repeat(context / 3));
    let n = model.encode(&"The rain sang. ".repeat(context / 3)).unwrap().ids.len();
    assert!(n > context, "{n} {context}");
    let mut notes = Notes::default();
    let [table, _] = run(&[long], &set, &directions, &params(0), &model, &mut notes).unwrap();
    assert_eq!(table.rows(), 2 * n);
    assert!(notes.lines[0].contains("windows that overlap by half"), "{:?}", notes.lines);
}

/// A conversation that a model's template refuses is skipped and reported.
#[test]
fn conversations_that_a_template_refuses_are_skipped_and_said() {
    let model = model("gemma");
    let set = set(model.spec.d_model);
    let directions = directions(&set, &params(0), &|_| unreachable!()).unwrap();
    let turns = rows::Said::Turns(vec![Message::new(Role::User, "Why?")]);
    let refused = Text {
        id: "b".into(),
        said: turns,
        label: None,
        place: "logs, line 2".into(),
        event: None,
        labels: None,
    };
    let mut notes = Notes::default();
    let texts = [plain("a", "A key."), refused.clone()];
    let [_, unread] = run(&texts, &set, &directions, &params(0), &model, &mut notes).unwrap();
    assert_eq!(unread.str("text_id").unwrap(), ["b"]);
    assert!(notes.lines[0].contains("1 of 2 texts cannot be read: logs, line 2: "), "{:?}", notes.lines);
    let error = run(&[refused], &set, &directions, &params(0), &model, &mut notes).unwrap_err().to_string();
    assert!(error.contains("none of 1 texts can be read"), "{error}");
}

/// A shard that is stopped after each batch resumes after the finished batches and gives the same bytes.
#[test]
fn a_stopped_shard_goes_on_behind_its_finished_batches() {
    let model = model("llama-gqa");
    let (d, context) = (model.spec.d_model, model.spec.context);
    let set = set(d);
    let directions = directions(&set, &params(0), &|_| unreachable!()).unwrap();
    // One text longer than the context among many shorter ones: three batches or more.
    let repeats = |at: usize| if at == 5 { context / 3 } else { 1 + at % 20 };
    let n = 3 * BATCH_TOKENS / 50;
    let texts: Vec<Text> =
        (0..n).map(|at| plain(&at.to_string(), &"The rain sang. ".repeat(repeats(at)))).collect();
    let read = |batches: &mut dyn Batches| {
        run(&texts, &set, &directions, &params(0), &model, batches).map(|[t, _]| t)
    };
    let whole = read(&mut |_: usize, _: usize| {}).unwrap();
    let mut batches = Notes { stop: true, ..Notes::default() };
    let mut tries = 0;
    let table = loop {
        batches.stopped = false;
        match read(&mut batches) {
            Ok(table) => break table,
            Err(error) => assert!(error.is::<crate::interrupt::Interrupted>(), "{error:#}"),
        }
        tries += 1;
    };
    assert!(tries >= 3 && batches.kept.len() == tries + 1, "{tries}");
    assert_eq!(batches.made, (0..tries + 1).collect::<Vec<_>>());
    assert!(table == whole);
}

/// Collects messages, and keeps batches in memory; with `stop`, stops after each new batch.
#[derive(Default)]
struct Notes {
    lines: Vec<String>,
    kept: HashMap<usize, Table>,
    made: Vec<usize>,
    stop: bool,
    stopped: bool,
}

impl Batches for Notes {
    fn at(&mut self, _: usize, _: usize) {}

    fn stopped(&self) -> bool {
        self.stopped
    }

    fn kept(&mut self, number: usize, _: &str) -> Result<Option<Table>> {
        Ok(self.kept.get(&number).filter(|_| self.stop).cloned())
    }

    fn keep(&mut self, number: usize, table: &Table) -> Result<()> {
        self.kept.insert(number, table.clone());
        self.made.push(number);
        self.stopped = self.stop;
        Ok(())
    }

    fn note(&mut self, line: &str) {
        self.lines.push(line.into());
    }
}
