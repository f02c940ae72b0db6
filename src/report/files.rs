//! Writes the report to disk: the page and its figure files. Independent of their content.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rayon::prelude::*;

use super::slots::{self, Named};
use super::svg::{self, Dress};
use super::{Report, html, png};
use crate::atomic::{self, replace};

/// Writes `dir/report.html` and, for every figure that is a drawing, `dir/figures/<name>.svg` and `.png`; returns the
/// page's path. Drawings of an earlier report in `dir/figures` are removed. Each file is written atomically, the page
/// after all drawings.
///
/// # Errors
/// A file cannot be written. The page of an earlier report may then still be in place.
pub fn write(report: &Report, dir: &Path) -> Result<PathBuf> {
    let figures = dir.join("figures");
    fs_err::create_dir_all(&figures)?;
    let chapters = slots::arrange(report);
    let named: Vec<_> = chapters.iter().flat_map(|c| &c.slots).flat_map(|s| &s.figures).collect();
    let written: Vec<Vec<String>> =
        named.par_iter().map(|named| write_figure(named, &figures)).collect::<Result<_>>()?;
    let page = dir.join("report.html");
    replace(&page, html::render(report).as_bytes())?;
    remove_stale(&figures, &written.into_iter().flatten().collect())?;
    Ok(page)
}

/// Writes the figure's two files and returns their names; none for a table. Rasterising costs a hundred times as much
/// as drawing, so the PNG is regenerated only if the SVG has changed: the PNG is written first, hence an unchanged SVG
/// on disk has its PNG. The SVG contains the program's version.
fn write_figure(Named { stem, figure }: &Named, folder: &Path) -> Result<Vec<String>> {
    let title = match figure.place() {
        place if place.is_empty() => figure.title.clone(),
        place => format!("{}, {place}", figure.title),
    };
    let draw = |dress| svg::draw(&title, &figure.body, dress);
    let Some(drawing) = draw(Dress::File) else { return Ok(Vec::new()) };
    let names = ["svg", "png"].map(|kind| format!("{stem}.{kind}"));
    let [drawing_path, pixels_path] = names.each_ref().map(|name| folder.join(name));
    let same = fs_err::read(&drawing_path).is_ok_and(|old| old == drawing.as_bytes())
        && fs_err::read(&pixels_path).is_ok_and(|old| png::is_whole(&old));
    if !same && let Some(print) = draw(Dress::Print) {
        let pixels = png::render(&print).with_context(|| format!("draw figure {stem}"))?;
        replace(&pixels_path, &pixels)?;
        replace(&drawing_path, drawing.as_bytes())?;
    }
    Ok(names.to_vec())
}

/// Removes drawings of earlier reports and temporary files of interrupted ones; other files are kept.
fn remove_stale(folder: &Path, current: &BTreeSet<String>) -> Result<()> {
    for entry in fs_err::read_dir(folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let drawing = name.ends_with(".svg") || name.ends_with(".png");
        let stale = (drawing && !current.contains(&name)) || name.starts_with(atomic::UNFINISHED);
        if stale && entry.file_type()?.is_file() {
            fs_err::remove_file(entry.path())?;
        }
    }
    Ok(())
}
