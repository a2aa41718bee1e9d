//! What a comparison found, as JSON and as a table.

use std::fmt::{self, Display, Formatter};

use serde::Serialize;

use super::load::Measurement;

/// One operation at one number of connections, beside the bare baseline of the same minute.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The operation's name.
    pub workload: String,
    /// Connections, each with one request at a time.
    pub connections: usize,
    /// Length of the request's body.
    pub request_bytes: usize,
    /// Length of the answer's body.
    pub answer_bytes: usize,
    /// The operation.
    pub server: Measurement,
    /// The baseline, with requests and answers of the same length.
    pub bare: Measurement,
    /// `server.ops_s / bare.ops_s`.
    pub ratio: f64,
}

/// All rows of one run. Displays as a table of at most 80 columns.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// In the order measured.
    pub rows: Vec<Row>,
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<21} {:>5} {:>9} {:>8} {:>8} {:>9} {:>8} {:>5}",
            "operation", "conns", "ops/s", "p50 us", "p99 us", "bare/s", "bare p50", "ratio"
        )?;
        for row in &self.rows {
            writeln!(
                f,
                "{:<21.21} {:>5} {:>9.0} {:>8.0} {:>8.0} {:>9.0} {:>8.0} {:>5.2}",
                row.workload,
                row.connections,
                row.server.ops_s,
                row.server.p50_us,
                row.server.p99_us,
                row.bare.ops_s,
                row.bare.p50_us,
                row.ratio
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_fits_a_terminal() {
        let most = Measurement {
            ops_s: 9_999_999.0,
            p50_us: 9_999_999.0,
            p99_us: 9_999_999.0,
            errors: 0,
            first_error: None,
        };
        let row = Row {
            workload: "a name that is far too long for its column".to_owned(),
            connections: 10_000,
            request_bytes: 0,
            answer_bytes: 0,
            server: most.clone(),
            bare: most,
            ratio: 1.0,
        };
        let table = Report { rows: vec![row] }.to_string();
        assert!(table.lines().all(|line| line.len() <= 80), "{table}");
        assert_eq!(table.lines().count(), 2);
    }
}
