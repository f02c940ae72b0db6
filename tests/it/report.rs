//! The report from data to files: structure, size, safety, what an earlier report left behind.

use base64::Engine;
use emoflow::lm::Layer;
use emoflow::report::figure::*;
use emoflow::report::{Origin, Report, Section, inflated, render, write};
use sha2::Digest;

const HOSTILE: &str = "</title><script>alert(1)</script>";

fn figure(name: &str, layer: Option<usize>, stories: Option<&str>, body: Body) -> Figure {
    Figure {
        name: name.into(),
        title: format!("The {name}"),
        caption: "How to read it.".into(),
        model: layer.map(|_| "demo".into()),
        stories: stories.map(Into::into),
        layer: layer.map(Layer::Block),
        axes: vec![],
        body,
    }
}

fn scatter(n: usize) -> Body {
    let point = |i: usize| Point {
        label: format!("word{i}"),
        x: ((i * 37) % 101) as f64 - 50.0,
        y: ((i * 53) % 97) as f64 - 48.0,
    };
    Body::Scatter(Scatter { x: "PC1".into(), y: "PC2".into(), points: (0..n).map(point).collect() })
}

fn heatmap(n: usize) -> Body {
    let names: Vec<String> = (0..n).map(|i| format!("word{i}")).collect();
    let values = (0..n * n).map(|i| ((i * 7919) % 2001) as f64 / 1000.0 - 1.0).collect();
    Body::Heatmap(Heatmap {
        row_axis: "emotion".into(),
        column_axis: "emotion".into(),
        rows: names.clone(),
        columns: names,
        values,
        value: "cosine".into(),
        limit: Some(1.0),
    })
}

fn table(rows: usize) -> Body {
    let row = |i: usize| {
        let mut row = vec![Cell::Text(format!("word{i}"))];
        row.extend((0..10).map(|j| Cell::Text(format!(" token{j} {i}.12"))));
        row
    };
    let columns = std::iter::once("emotion".to_string()).chain((1..=10).map(|i| format!("{i}"))).collect();
    Body::Table(TableFigure { columns, rows: (0..rows).map(row).collect() })
}

fn small() -> Report {
    let bars = Body::Bars(Bars {
        y: "change".into(),
        band: "null".into(),
        bars: vec![Bar { label: "happy".into(), value: 1.0, band: Some((-0.5, 0.5)), interval: None }],
    });
    Report {
        title: format!("Small {HOSTILE}"),
        description: "One.\n\nTwo.".into(),
        facts: vec![("Model".into(), "demo".into()), ("Device".into(), "cpu: no GPU found".into())],
        sections: vec![
            Section {
                id: "space".into(),
                title: "Space".into(),
                intro: "What it is.".into(),
                figures: vec![
                    figure("space", Some(2), Some("own"), scatter(3)),
                    figure("space", Some(4), Some("own"), scatter(3)),
                    figure("causes", Some(4), Some("own"), bars),
                ],
                tables: vec!["tables/space".into()],
                origins: vec![Origin {
                    model: Some("demo".into()),
                    stories: Some("own".into()),
                    node: "space/demo/own".into(),
                    keys: vec![
                        (Some(Layer::Block(2)), "ab12".into()),
                        (Some(Layer::Block(4)), "cd34".into()),
                    ],
                    command: "emoflow run exp.toml --only 'space/demo/own'".into(),
                    ..Origin::default()
                }],
            },
            Section {
                id: "space".into(),
                title: "Counts".into(),
                intro: String::new(),
                figures: vec![figure("counts", None, None, table(1))],
                ..Section::default()
            },
        ],
        emotions: vec!["happy".into(), "sad <b>".into()],
        default_layers: Default::default(),
    }
}

/// Two models; a sweep over two axes of which figures depend on both, on one and on none; and one axis of one value.
fn swept() -> Report {
    let variant = |f: Figure, axes: &[(&str, &str)]| Figure {
        axes: axes.iter().map(|(axis, value)| (axis.to_string(), value.to_string())).collect(),
        ..f
    };
    let mut figures = Vec::new();
    for model in ["demo", "other"] {
        let of = |f: Figure| Figure { model: Some(model.into()), ..f };
        for from_token in ["0", "50"] {
            for denoise in ["none", "3 <b>"] {
                let axes = [("from_token", from_token), ("denoise", denoise), ("seed", "0")];
                for layer in [2, 4] {
                    figures.push(of(variant(figure("space", Some(layer), Some("own"), scatter(3)), &axes)));
                }
            }
            let short = figure("short", None, Some("own"), table(1));
            figures.push(of(variant(short, &[("from_token", from_token), ("seed", "0")])));
        }
    }
    // Made for one variant only.
    let causes = variant(figure("causes", None, Some("own"), table(1)), &[("from_token", "50")]);
    figures.push(Figure { model: Some("demo".into()), ..causes });
    figures.push(figure("counts", None, None, table(1)));
    let section = Section { id: "axis-0".into(), title: "All".into(), figures, ..Section::default() };
    Report { title: "Sweep".into(), sections: vec![section], ..Default::default() }
}

/// The page with what is between these two marks left out, as often as they occur.
fn without(page: &str, start: &str, end: &str) -> String {
    let mut out = String::new();
    let mut rest = page;
    while let Some(at) = rest.find(start) {
        out.push_str(&rest[..at + start.len()]);
        out.push_str("...");
        rest = &rest[at + start.len()..];
        rest = &rest[rest.find(end).expect("every start has its end")..];
    }
    out + rest
}

#[test]
fn the_page_s_structure() {
    let page = without(&inflated(&render(&small())).unwrap(), "<style>", "</style>");
    let page = without(&without(&page, "sha256-", "'"), "fill=\"none\"", "</svg>");
    insta::assert_snapshot!(page);
}

/// The opening tags of `element` in the page.
fn tags<'a>(page: &'a str, element: &str) -> Vec<&'a str> {
    let open = format!("<{element}");
    page.split(&open).skip(1).map(|rest| &rest[..rest.find('>').expect("a whole tag")]).collect()
}

#[test]
fn variants_are_selected_by_the_axes_of_several_values() {
    let page = inflated(&render(&swept())).unwrap();
    assert_eq!(
        tags(&page, "select "),
        ["id=\"model\"", "id=\"stories\"", "id=\"layer\"", "id=\"axis-0\"", "id=\"axis-1\""]
    );
    assert!(page.contains("<span>from_token</span> <select id=\"axis-0\"><option value=\"0\">0</option>"));
    assert!(page.contains("<span>denoise</span> <select id=\"axis-1\"><option value=\"none\">none</option>"));
    assert!(page.contains("<option value=\"3 &lt;b&gt;\">3 &lt;b&gt;</option>"));
    // No selector for the one seed; no id of the page twice.
    assert!(!page.contains("<span>seed</span>") && page.contains("<section id=\"axis-0-2\">"));
    let figures = tags(&page, "figure ");
    let axes = "data-axis-0=\"50\" data-axis-1=\"3 &lt;b&gt;\"";
    let last = format!(
        "id=\"fig-space_other_own_layer-4_from_token-50_denoise-3-b_seed-0\" data-model=\"other\" \
         data-stories=\"own\" {axes} data-layer=\"4\""
    );
    assert_eq!(figures[15], last, "{figures:#?}");
    let short = "id=\"fig-short_demo_own_from_token-0_seed-0\" data-model=\"demo\" data-stories=\"own\" \
                 data-axis-0=\"0\"";
    assert_eq!(figures[16], short);
    assert_eq!(figures.last(), Some(&"id=\"fig-counts\""));
    assert_eq!(page.matches("class=\"slot\"").count(), 4);
    // Every variant says what it is, for readers without the script.
    assert!(page.contains("demo \u{b7} own \u{b7} layer 2 \u{b7} from_token=0 \u{b7} denoise=none"));
}

#[test]
fn a_hostile_text_stays_text() {
    let page = render(&small());
    assert_eq!(page.matches("<script>").count(), 1, "the page's own script alone");
    // Nor does one run that is not this one.
    let script = page.split_once("<script>").unwrap().1.split_once("</script>").unwrap().0;
    let digest = base64::engine::general_purpose::STANDARD.encode(sha2::Sha256::digest(script));
    assert!(page.contains(&format!("script-src 'sha256-{digest}'\"")));
    let page = format!("{page}{}", inflated(&page).unwrap());
    assert!(!page.contains("<script>alert"));
    assert!(page.contains("&lt;script&gt;alert(1)"));
    for outside in ["http://", "https://", "src=", "@import", "url("] {
        let page = page.replace("http://www.w3.org/2000/svg", "");
        assert!(!page.contains(outside), "{outside} in the page");
    }
}

#[test]
fn two_renders_are_the_same_bytes() {
    assert!(render(&small()) == render(&small()));
}

#[test]
fn a_large_experiment_makes_a_small_page() {
    let mut figures = Vec::new();
    for stories in ["own", "passages"] {
        for layer in 0..6 {
            figures.push(figure("space", Some(layer), Some(stories), scatter(30)));
            figures.push(figure("similarity", Some(layer), Some(stories), heatmap(30)));
            figures.push(figure("words", Some(layer), Some(stories), table(30)));
        }
    }
    let section = Section { id: "all".into(), title: "All".into(), figures, ..Section::default() };
    let size = render(&Report { sections: vec![section], ..Default::default() }).len();
    assert!(size < 400_000, "{size} bytes");
}

#[test]
fn files_are_written_and_stale_ones_removed() {
    let folder = tempfile::tempdir().unwrap();
    let figures = folder.path().join("figures");
    std::fs::create_dir(&figures).unwrap();
    for name in ["old_m_layer-1.svg", "old_m_layer-1.png", ".unfinished-x", "notes.txt"] {
        std::fs::write(figures.join(name), "x").unwrap();
    }
    let page = write(&small(), folder.path()).unwrap();
    assert_eq!(page, folder.path().join("report.html"));
    assert!(std::fs::read_to_string(&page).unwrap() == render(&small()));
    let mut names: Vec<String> =
        std::fs::read_dir(&figures).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(
        names,
        [
            "causes_demo_own_layer-4.png",
            "causes_demo_own_layer-4.svg",
            "notes.txt",
            "space_demo_own_layer-2.png",
            "space_demo_own_layer-2.svg",
            "space_demo_own_layer-4.png",
            "space_demo_own_layer-4.svg",
        ]
    );
    for name in names.iter().filter(|n| *n != "notes.txt") {
        let page = crate::page(&page);
        assert!(page.contains(&format!("href=\"figures/{name}\"")), "{name} is linked");
    }
    // A PNG begins with these eight bytes, then the width of 820 units as 1640 pixels.
    let png = std::fs::read(figures.join("space_demo_own_layer-2.png")).unwrap();
    assert_eq!(&png[..8], b"\x89PNG\r\n\x1a\n");
    assert_eq!(u32::from_be_bytes(png[16..20].try_into().unwrap()), 1640);
    // A second time, with one drawing damaged and one PNG cut short: both are whole again, the same bytes.
    let files = || names.iter().map(|n| std::fs::read(figures.join(n)).unwrap()).collect::<Vec<_>>();
    let before = files();
    std::fs::write(figures.join("causes_demo_own_layer-4.svg"), "damaged").unwrap();
    std::fs::write(figures.join("space_demo_own_layer-2.png"), &png[..100]).unwrap();
    write(&small(), folder.path()).unwrap();
    assert!(files() == before);
}
