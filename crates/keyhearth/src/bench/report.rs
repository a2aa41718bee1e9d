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
    /// The same at another server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<PeerRow>,
}

/// Another server at the same work in the same minute.
#[derive(Clone, Debug, Serialize)]
pub struct PeerRow {
    /// The other server.
    pub peer: Measurement,
    /// How many times as many operations a second the measured server does.
    pub times: f64,
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
            "{:<31} {:>5} {:>8} {:>8} {:>8} {:>8} {:>5}",
            "operation", "conns", "ops/s", "p50 us", "p99 us", "bare/s", "ratio"
        )?;
        for Row { workload, connections, server, bare, ratio, .. } in &self.rows {
            writeln!(
                f,
                "{workload:<31.31} {connections:>5} {:>8.0} {:>8.0} {:>8.0} {:>8.0} {ratio:>5.2}",
                server.ops_s, server.p50_us, server.p99_us, bare.ops_s,
            )?;
        }
        let mut with_peer = self.rows.iter().filter_map(|row| Some((row, row.peer.as_ref()?))).peekable();
        if with_peer.peek().is_some() {
            writeln!(
                f,
                "\n{:<31} {:>5} {:>8} {:>8} {:>8} {:>8} {:>5}",
                "beside the peer", "conns", "ops/s", "peer/s", "peer p50", "peer p99", "times"
            )?;
        }
        for (Row { workload, connections, server, .. }, PeerRow { peer, times }) in with_peer {
            writeln!(
                f,
                "{workload:<31.31} {connections:>5} {:>8.0} {:>8.0} {:>8.0} {:>8.0} {times:>5.0}",
                server.ops_s, peer.ops_s, peer.p50_us, peer.p99_us,
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
            bare: most.clone(),
            ratio: 1.0,
            peer: Some(PeerRow { peer: most, times: 9_999.0 }),
        };
        let alone = Row { peer: None, ..row.clone() };
        for (rows, lines) in [(vec![alone], 2), (vec![row], 5)] {
            let table = Report { rows }.to_string();
            assert!(table.lines().all(|line| line.len() <= 80), "{table}");
            assert_eq!(table.lines().count(), lines, "{table}");
        }
    }
}
