//! How fast the server is, as a share of what this machine could do with the same bytes.
//!
//! Absolute figures say more about the machine than about us. So every operation is measured
//! beside the [`bare`] baseline: the same listener with the same lengths of request and answer in
//! the same minute, but without the work in between. The client is the same too: what it costs to
//! sign a request is spent towards both.
//!
//! Not here: which operations are measured and how their keys come to be; the caller brings
//! those as [`Workload`]s.

pub mod bare;
mod error;
mod histogram;
pub mod load;
pub mod process;
pub mod report;
pub mod request;
pub mod sign;
pub mod suite;

use std::sync::Arc;
use std::thread::available_parallelism;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

pub use self::error::Error;
use self::load::{Certificate, Connection, Measurement, Target, Tls, Way};
use self::process::Process;
use self::report::{PeerRow, Report, Row};
use self::request::{Outgoing, Request};

/// An operation to measure.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Its name in the report.
    pub name: String,
    /// What is sent.
    pub request: Request,
}

/// Another server that does the same work, and that work in the terms of its own keys.
pub struct Peer {
    /// The other server.
    pub target: Target,
    /// The same operations, under the same names.
    pub workloads: Vec<Workload>,
}

/// How long and how wide to measure.
#[derive(Clone, Debug)]
pub struct Extent {
    /// Numbers of connections, one row each.
    pub connections: Vec<usize>,
    /// Time before measuring, in milliseconds.
    pub warm_up_ms: u64,
    /// Time measured, in milliseconds.
    pub measure_ms: u64,
    /// Times each is measured, in turn with the baseline; the median counts.
    pub rounds: usize,
    /// Threads of the load process.
    pub threads: usize,
}

impl Default for Extent {
    fn default() -> Self {
        let cores = available_parallelism().map_or(1, usize::from);
        Self {
            connections: vec![1, 16, 64],
            warm_up_ms: 500,
            measure_ms: 2000,
            rounds: 3,
            threads: cores.div_ceil(2),
        }
    }
}

/// Measures each workload at `target`, and beside it the bare baseline and the same at the `peer`.
///
/// # Errors
/// If a process fails, or any request is not answered with a 2xx status.
pub fn compare(
    target: &Target,
    workloads: &[Workload],
    peer: Option<&Peer>,
    extent: &Extent,
) -> Result<Report, Error> {
    let mut report = Report::default();
    for Workload { name, request } in workloads {
        let answer_bytes = answer_bytes(target, request)?;
        let mutual = target.tls.as_ref().is_some_and(|tls| tls.client.is_some());
        let (bare_job, mut bare_target) = bare_pair(answer_bytes, mutual)?;
        let mut bare_server = Process::start(&[process::BARE], &bare_job)?;
        bare_target.address = bare_server.address()?;
        let same = peer.and_then(|peer| {
            let same = peer.workloads.iter().find(|workload| workload.name == *name)?;
            Some((&peer.target, &same.request))
        });
        for &connections in &extent.connections {
            let (mut bare, mut server, mut peer) = (Vec::new(), Vec::new(), Vec::new());
            for _ in 0..extent.rounds.max(1) {
                bare.push(measure(&bare_target, request, connections, extent)?);
                server.push(measure(target, request, connections, extent)?);
                if let Some((target, request)) = same {
                    peer.push(measure(target, request, connections, extent)?);
                }
            }
            let (bare, server) = (median(bare), median(server));
            let ops_s = server.ops_s;
            report.rows.push(Row {
                workload: name.clone(),
                connections,
                request_bytes: request.body.len(),
                answer_bytes,
                ratio: ops_s / bare.ops_s,
                server,
                bare,
                peer: same.map(|_| median(peer)).map(|peer| PeerRow { times: ops_s / peer.ops_s, peer }),
            });
        }
    }
    Ok(report)
}

/// Puts load on `target` from a process of its own.
///
/// # Errors
/// If the process fails, or any request is not answered with a 2xx status.
pub fn measure(
    target: &Target,
    request: &Request,
    connections: usize,
    extent: &Extent,
) -> Result<Measurement, Error> {
    let job = load::Job {
        target: target.clone(),
        request: request.clone(),
        connections,
        threads: extent.threads,
        warm_up_ms: extent.warm_up_ms,
        measure_ms: extent.measure_ms,
    };
    let measurement: Measurement = Process::start(&[process::LOAD], &job)?.result()?;
    match measurement.first_error {
        Some(refusal) => Err(Error::Refused { connections: measurement.errors, refusal }),
        None => Ok(measurement),
    }
}

/// The middle one by speed; one run is too easily disturbed. `runs` is not empty.
fn median(mut runs: Vec<Measurement>) -> Measurement {
    runs.sort_by(|a, b| a.ops_s.total_cmp(&b.ops_s));
    runs.swap_remove(runs.len() / 2)
}

/// Sends `request` once, to learn how long its answer is.
fn answer_bytes(target: &Target, request: &Request) -> Result<usize, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let mut connection = Connection::open(&Arc::new(Way::to(target)?)).await?;
        let answer = connection.exchange(Outgoing::new(request).number(0, load::present())).await?;
        if (200..300).contains(&answer.status) {
            Ok(answer.body.len())
        } else {
            Err(Error::Refused { connections: 1, refusal: answer.refusal() })
        }
    })
}

/// A bare server's job and the target it becomes, with certificates that live as long as they do; `mutual` if
/// the client shows one as well.
///
/// # Errors
/// If no certificate can be made.
pub fn bare_pair(answer_bytes: usize, mutual: bool) -> Result<(bare::Job, Target), Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let issue = |name: &str| {
        let key = KeyPair::generate()?;
        let chain = CertificateParams::new(vec![name.to_owned()])?.signed_by(&key, &authority)?.pem();
        Ok::<_, rcgen::Error>(Certificate { chain, key: key.serialize_pem() })
    };
    let Certificate { chain, key } = issue("localhost")?;
    let tls = Tls {
        server_name: "localhost".to_owned(),
        roots: authority.pem(),
        client: mutual.then(|| issue("load")).transpose()?,
    };
    let roots = if mutual { authority.pem() } else { String::new() };
    let target = Target { address: ([127, 0, 0, 1], 0).into(), tls: Some(tls) };
    Ok((bare::Job { chain, key, roots, answer_bytes }, target))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::request::SEQUENCE;
    use super::sign::tests::access_key;
    use super::*;
    use crate::listen::Stop;

    #[test]
    fn load_is_answered_and_refusals_are_counted() {
        let requests =
            [Request::rest("POST", "/", SEQUENCE), Request::aws("ListKeys", SEQUENCE, &access_key())];
        for (request, mutual) in requests.into_iter().zip([true, false]) {
            let (bare_job, mut target) = bare_pair(100, mutual).unwrap();
            let (stop, shutdown) = Stop::new();
            let (ready, address) = mpsc::channel();
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
            let server = runtime.spawn(async move {
                bare::serve(&bare_job, |address| ready.send(address).unwrap(), shutdown).await.unwrap();
            });
            target.address = address.recv().unwrap();
            assert_eq!(answer_bytes(&target, &request).unwrap(), 100);
            let run = |request: Request| {
                let target = target.clone();
                let (connections, threads, warm_up_ms, measure_ms) = (3, 2, 10, 100);
                let job = load::Job { target, request, connections, threads, warm_up_ms, measure_ms };
                load::run(&job).unwrap()
            };
            let good = run(request);
            assert_eq!((good.errors, good.first_error), (0, None));
            assert!(good.ops_s > 0.0 && 0.0 < good.p50_us && good.p50_us <= good.p99_us);
            let refused = run(Request::rest("this is not", "HTTP", ""));
            assert_eq!((refused.ops_s, refused.errors), (0.0, 3));
            assert!(refused.first_error.unwrap().starts_with("status 400"));
            stop.request();
            runtime.block_on(server).unwrap();
        }
    }

    #[test]
    fn the_median_is_in_the_middle() {
        let runs = [30.0, 10.0, 20.0].map(|ops_s| Measurement {
            ops_s,
            p50_us: 0.0,
            p99_us: 0.0,
            errors: 0,
            first_error: None,
        });
        assert_eq!(median(runs.to_vec()).ops_s, 20.0);
    }
}
