//! The web page of `hello`.

use std::time::Duration;

/// What the page says.
#[derive(Debug)]
pub(super) struct Facts {
    /// Name of the container.
    pub(super) hostname: String,
    /// From the moment it was asked for to the moment it could answer.
    pub(super) start: Option<Duration>,
}

const TEMPLATE: &str = include_str!("page.html");

/// The page as HTML.
pub(super) fn render(facts: &Facts) -> String {
    let start = facts.start.map_or_else(String::new, |start| {
        format!(
            "<div><dt>Started in</dt><dd>{}</dd></div>",
            milliseconds(start)
        )
    });
    TEMPLATE
        .replace("{version}", env!("CARGO_PKG_VERSION"))
        .replace("{start}", &start)
        .replace("{hostname}", &escape(&facts.hostname))
}

fn milliseconds(time: Duration) -> String {
    let milliseconds = time.as_secs_f64() * 1000.0;
    if milliseconds < 10.0 {
        format!("{milliseconds:.1} ms")
    } else {
        format!("{milliseconds:.0} ms")
    }
}

fn escape(text: &str) -> String {
    text.chars()
        .map(|character| match character {
            '&' => "&amp;".to_owned(),
            '<' => "&lt;".to_owned(),
            '>' => "&gt;".to_owned(),
            '"' => "&quot;".to_owned(),
            other => other.to_string(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_shows_the_facts_and_nothing_else() {
        let page = render(&Facts {
            hostname: "<b>&".to_owned(),
            start: Some(Duration::from_micros(8_250)),
        });
        assert!(page.contains("&lt;b&gt;&amp;"));
        assert!(page.contains("8.2 ms") || page.contains("8.3 ms"));
        assert!(page.contains(env!("CARGO_PKG_VERSION")));
        assert!(
            !page.contains("{start}")
                && !page.contains("{hostname}")
                && !page.contains("{version}")
        );
        assert!(
            !page.contains("http://") && !page.contains("https://"),
            "it must work offline"
        );
    }

    #[test]
    fn an_unknown_start_is_left_out() {
        let page = render(&Facts {
            hostname: "h".to_owned(),
            start: None,
        });
        assert!(!page.contains("Started in"));
    }
}
