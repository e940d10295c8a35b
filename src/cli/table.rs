//! Tables: a line of headings, and a line for each thing, in columns.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use indicatif::HumanDuration;

/// Rows of cells, of which the last has no spaces behind it. Cells can be the text of strangers: what would move the cursor
/// or colour the screen is left out, and an empty cell is a `-`, so that columns can be told apart by programs.
pub(crate) fn table<const N: usize>(heading: [&str; N], rows: Vec<[String; N]>) -> String {
    let mut all = vec![heading.map(str::to_owned)];
    all.extend(rows.into_iter().map(|row| row.map(|cell| clean(&cell))));
    let mut widths = [0; N];
    for row in &all {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in &all {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            let _ = write!(line, "{cell:width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn clean(cell: &str) -> String {
    let clean: String = cell.chars().filter(|char| !char.is_control()).collect();
    if clean.is_empty() {
        "-".to_owned()
    } else {
        clean
    }
}

/// How long ago a time in seconds since the epoch is.
pub(crate) fn ago(now: SystemTime, seconds: u64) -> String {
    let then = UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
    match then.and_then(|then| now.duration_since(then).ok()) {
        Some(passed) if passed.as_secs() > 0 => format!("{} ago", HumanDuration(passed)),
        // The clock of the location may be ahead of ours.
        _ => "just now".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = vec![
            ["a".to_owned(), "b".to_owned()],
            ["long one".to_owned(), String::new()],
        ];
        let expected = "NAME      X\na         b\nlong one  -\n";
        assert_eq!(table(["NAME", "X"], rows), expected);
    }

    #[test]
    fn strangers_cannot_move_the_cursor() {
        let rows = vec![["\x1b[2Jhost\r\n".to_owned()]];
        assert_eq!(table(["HOST"], rows), "HOST\n[2Jhost\n");
    }

    #[test]
    fn times_to_come_are_now() {
        assert_eq!(ago(UNIX_EPOCH, 5), "just now");
        assert_eq!(
            ago(UNIX_EPOCH + Duration::from_secs(125), 5),
            "2 minutes ago"
        );
    }
}
