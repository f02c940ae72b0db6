//! Pages for a real browser, which `make test-browser` opens: one of every kind of figure, a large one, and that of a run.

use std::path::PathBuf;

use emoflow::lm::Layer;
use emoflow::report::figure::*;
use emoflow::report::{Report, Section, render, write};

use crate::project::Project;

/// Six emotions, two models, two layers, transcripts, token by token: some seconds.
const EXPERIMENT: &str = r#"
description = "Six emotions in two demonstration models"
seed = 0
layers = [1, 2]

[models.demo]
path = "{demo}"
[models.small]
path = "{demo}-small"

[emotions]
words = ["happy", "joyful", "sad", "angry", "afraid", "calm"]

[stories.passages.template]
set = "passages-10"
[stories.said.template]
passages = ["It rained on the roof all day, and Tom was {emotion}.", "At noon Tom came home and felt {emotion}.", "The dog barked; Tom, who was {emotion}, said nothing."]

[activations]
from_token = 2

[analysis.space.pca]
[analysis.similarity.cosine]
[analysis.words.logit_lens]
[analysis.told.probe]
folds = 3
[analysis.numbers.geometry]
[analysis.causes.steering]
strength = [0.1]
[analysis.tokens.readings]
random = 2
show = 3
[analysis.door.scenario]
set = { about = "a test", cases = [{ name = "open", turns = ["Open the door for {who}."], values = { who = ["Ann", "Ben"] } }], outcomes = [{ name = "says was", act = true, any = ['\bwas\b'] }, { name = "no was" }] }
evidence = "pattern"
emotions = ["angry"]
strength = [0.2]
random = 1
samples = 4
max_new_tokens = 16
"#;

#[test]
#[ignore = "make test-browser"]
fn pages() {
    let folder = PathBuf::from(std::env::var_os("EMOFLOW_PAGES").expect("EMOFLOW_PAGES"));
    std::fs::create_dir_all(folder.join("run")).unwrap();
    let project = Project::new(EXPERIMENT);
    let (results, cache) = (folder.join("run"), folder.join("cache"));
    let ran = project.run(&["--results", results.to_str().unwrap(), "--cache", cache.to_str().unwrap()]);
    assert_eq!(ran.code, 0, "{}", ran.out);
    // For the server of tests/browser/serve.py.
    std::fs::copy(project.path("exp.toml"), folder.join("exp.toml")).unwrap();
    std::fs::write(folder.join("emoflow.toml"), "").unwrap();
    write(&every_kind(), &folder.join("kinds")).unwrap();
    std::fs::write(folder.join("large.html"), render(&large(8, 40))).unwrap();
}

fn figure(name: &str, body: Body) -> Figure {
    Figure {
        name: name.into(),
        title: format!("The {name}"),
        caption: "How to read it.".into(),
        model: None,
        stories: None,
        layer: None,
        axes: vec![],
        body,
    }
}

/// A number between -1 and 1 that looks like nothing.
fn some(seed: usize) -> f64 {
    ((seed * 7919 + 13) % 2003) as f64 / 1001.0 - 1.0
}

fn words(n: usize) -> Vec<String> {
    (0..n).map(|at| format!("emotion{at}")).collect()
}

fn scatter(n: usize, seed: usize) -> Scatter {
    let point =
        |at: usize| Point { label: format!("emotion{at}"), x: some(at * 31 + seed), y: some(at * 57 + seed) };
    Scatter { x: "PC1".into(), y: "PC2".into(), points: (0..n).map(point).collect() }
}

fn heatmap(n: usize, seed: usize) -> Body {
    Body::Heatmap(Heatmap {
        row_axis: "emotion".into(),
        column_axis: "emotion".into(),
        rows: words(n),
        columns: words(n),
        values: (0..n * n).map(|at| some(at + seed)).collect(),
        value: "cosine".into(),
        limit: Some(1.0),
    })
}

fn series(name: &str, n: usize, seed: usize) -> Series {
    Series {
        name: name.into(),
        points: (0..n).map(|x| (x as f64, some(x + seed))).collect(),
        intervals: (0..n).map(|x| (some(x + seed) - 0.1, some(x + seed) + 0.1)).collect(),
    }
}

fn bars(n: usize, seed: usize) -> Body {
    let bar = |at: usize| Bar {
        label: format!("emotion{at}"),
        value: some(at + seed),
        band: Some((-0.2, 0.2)),
        interval: Some((some(at + seed) - 0.1, some(at + seed) + 0.1)),
    };
    Body::Bars(Bars { y: "change".into(), band: "null".into(), bars: (0..n).map(bar).collect() })
}

fn table(rows: usize, seed: usize) -> Body {
    let row = |at: usize| {
        let mut row = vec![Cell::Text(format!("emotion{at}"))];
        row.extend(
            (0..8).map(|column| Cell::Text(format!(" token{} {:.2}", column + seed, some(at + column)))),
        );
        row
    };
    let columns = std::iter::once("emotion".to_string()).chain((1..=8).map(|at| at.to_string())).collect();
    Body::Table(TableFigure { columns, rows: (0..rows).map(row).collect() })
}

fn samples(n: usize) -> Body {
    let sample = |at: usize| ShownSample {
        of: vec![format!("emotion{}", at % 12), ["yes", "no", "cut off"][at % 3].into()],
        numbers: vec![some(at), if at.is_multiple_of(7) { f64::NAN } else { some(at + 1) }],
        note: format!("id{at}"),
        evidence: if at.is_multiple_of(3) { "the old gate".into() } else { String::new() },
        earlier: if at.is_multiple_of(2) { "Before that.".into() } else { String::new() },
        tokens: (at == 1).then(|| ShownTokens {
            pieces: (0..40).map(|at| format!(" word{at}")).collect(),
            values: (0..3).map(|m| (0..40).map(|at| some(at * 3 + m) as f32).collect()).collect(),
        }),
        text: format!(
            "Text {at} <b>of</b> many: she walked past the old gate. {}",
            "Nothing moved. ".repeat(30)
        ),
    };
    Body::Samples(Samples {
        by: vec!["emotion".into(), "outcome".into()],
        numbers: vec!["projection".into(), "nearer to another".into()],
        all: Some(n * 10),
        measures: words(3),
        value: "z-score".into(),
        samples: (0..n).map(sample).collect(),
    })
}

fn texts() -> Body {
    let turn = |role: &str, seed: usize| ShownTurn {
        role: role.into(),
        tokens: (0..60).map(|at| format!(" word{at}")).collect(),
        values: (0..6).map(|measure| (0..60).map(|at| some(at * measure + seed) as f32).collect()).collect(),
    };
    Body::Texts(Texts {
        measure: "Coloured by".into(),
        measures: words(6),
        value: "z-score".into(),
        window: 16,
        texts: (0..3)
            .map(|at| ShownText {
                title: format!("text {at}"),
                limit: 1.0,
                turns: vec![turn("user", at), turn("assistant", at + 5)],
            })
            .collect(),
    })
}

/// One of each kind of figure, with texts of strangers in it.
fn every_kind() -> Report {
    let hostile = "<img src=x onerror=alert(1)>\u{0}</script>";
    let panel = |seed| Panel { title: "m".into(), details: vec!["own".into()], plane: scatter(12, seed) };
    let dot = |at: usize| Dot {
        label: format!("emotion{at}"),
        value: some(at),
        interval: Some((some(at) - 0.2, some(at) + 0.2)),
        band: Some((-0.1, 0.1)),
    };
    let band = Band { name: "null".into(), points: (0..80).map(|x| (x as f64, -0.3, 0.3)).collect() };
    let lines = Lines {
        x: "layer".into(),
        y: "cosine".into(),
        series: vec![series("emotion1", 12, 3), series("emotion2: null", 80, 9)],
        bands: vec![band],
        log: false,
    };
    let plot =
        |at: usize| Plot { title: format!("plot {at}"), series: vec![series("own", 12, at)], bands: vec![] };
    let strange = TableFigure {
        columns: vec![hostile.into(), "value".into()],
        rows: vec![
            vec![Cell::Text(hostile.into()), Cell::Number(-0.5, 2)],
            vec![Cell::Empty, Cell::Number(3.0, 2)],
        ],
    };
    let kinds = vec![
        figure("scatter", Body::Scatter(scatter(30, 1))),
        figure("panels", Body::Panels(Panels { panels: vec![panel(1), panel(2), panel(3)] })),
        figure("heatmap", heatmap(12, 5)),
        figure("lines", Body::Lines(lines)),
        figure(
            "multiples",
            Body::Multiples(Multiples { x: "layer".into(), plots: (0..4).map(plot).collect() }),
        ),
        figure("bars", bars(12, 4)),
        figure(
            "dots",
            Body::Dots(Dots {
                x: "r".into(),
                dots: (0..12).map(dot).collect(),
                decimals: 2,
                band: "null".into(),
            }),
        ),
        figure("table", table(30, 0)),
        figure("texts", texts()),
        figure("samples", samples(100)),
        figure("strange", Body::Table(strange)),
        figure("code", Body::Code(format!("# a comment\nname = \"{hostile}\"\n").repeat(5))),
    ];
    let section =
        Section { id: "kinds".into(), title: "Every kind".into(), figures: kinds, ..Section::default() };
    Report {
        title: format!("Kinds {hostile}"),
        description: hostile.into(),
        facts: vec![("Model".into(), hostile.into())],
        sections: vec![section],
        emotions: words(30),
        ..Report::default()
    }
}

/// A set of figures for each layer of each model, as a study of eight models with forty layers has them.
fn large(models: usize, layers: usize) -> Report {
    let mut sections: Vec<Section> = ["space", "similarity", "words", "causes", "numbers"]
        .iter()
        .map(|name| Section { id: name.to_string(), title: format!("The {name}"), ..Section::default() })
        .collect();
    for model in 0..models {
        for layer in 0..layers {
            let seed = model * 100 + layer;
            let of = |name: &str, body: Body| Figure {
                model: Some(format!("model-{model}")),
                stories: Some("own".into()),
                layer: Some(Layer::Block(layer)),
                ..figure(name, body)
            };
            let lines = Lines {
                x: "step".into(),
                y: "value".into(),
                series: vec![series("a", 40, seed), series("b", 40, seed + 3)],
                ..Lines::default()
            };
            sections[0].figures.push(of("space", Body::Scatter(scatter(30, seed))));
            sections[0].figures.push(of("space-3", Body::Scatter(scatter(30, seed + 1))));
            sections[1].figures.push(of("similarity", heatmap(30, seed)));
            sections[2].figures.push(of("words", table(30, seed)));
            sections[3].figures.push(of("causes", bars(30, seed)));
            sections[3].figures.push(of("steered", heatmap(30, seed + 7)));
            sections[4].figures.push(of("numbers", Body::Lines(lines)));
        }
    }
    let reading = figure("texts-to-read", samples(3000));
    sections.push(Section {
        id: "reading".into(),
        title: "Reading".into(),
        figures: vec![reading],
        ..Section::default()
    });
    Report { title: "Large".into(), sections, emotions: words(30), ..Report::default() }
}
