//! How fast the server is, as a share of what this machine could do with the same bytes.
//!
//! Absolute figures say more about the machine than about us. So every operation is measured
//! beside the [`bare`] baseline: the same listener with the same lengths of request and answer in
//! the same minute, but without the work in between.
//!
//! Not here: which operations are measured and how their keys come to be; the caller brings
//! those as [`Workload`]s.

pub mod bare;
mod histogram;
pub mod load;
pub mod process;
pub mod report;

use std::thread::available_parallelism;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use self::load::{Connection, Measurement, Target};
use self::process::Process;
use self::report::{Report, Row};

/// An operation to measure.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Its name in the report.
    pub name: String,
    /// HTTP method.
    pub method: String,
    /// HTTP path.
    pub path: String,
    /// JSON body. [`load::SEQUENCE`] in path or body is unique to each request.
    pub body: String,
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
    /// Threads of the load process.
    pub threads: usize,
}

impl Default for Extent {
    fn default() -> Self {
        let cores = available_parallelism().map_or(1, usize::from);
        Self { connections: vec![1, 16, 64], warm_up_ms: 1000, measure_ms: 4000, threads: cores.div_ceil(2) }
    }
}

/// Measures each workload at `target`, and the bare baseline beside it.
///
/// # Errors
/// If a process fails, or any request is not answered with a 2xx status.
pub fn compare(target: &Target, workloads: &[Workload], extent: &Extent) -> anyhow::Result<Report> {
    let mut report = Report::default();
    for workload in workloads {
        let request = load::request(&workload.method, &workload.path, &workload.body);
        let answer_bytes = answer_bytes(target, &request)?;
        let (bare_job, mut bare_target) = bare_pair(answer_bytes)?;
        let mut bare_server = Process::start(&[process::BARE], &bare_job)?;
        bare_target.address = bare_server.address()?;
        for &connections in &extent.connections {
            let bare = measure(&bare_target, &request, connections, extent)?;
            let server = measure(target, &request, connections, extent)?;
            report.rows.push(Row {
                workload: workload.name.clone(),
                connections,
                request_bytes: workload.body.len(),
                answer_bytes,
                ratio: server.ops_s / bare.ops_s,
                server,
                bare,
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
    request: &str,
    connections: usize,
    extent: &Extent,
) -> anyhow::Result<Measurement> {
    let job = load::Job {
        target: target.clone(),
        request: request.to_owned(),
        connections,
        threads: extent.threads,
        warm_up_ms: extent.warm_up_ms,
        measure_ms: extent.measure_ms,
    };
    let measurement: Measurement = Process::start(&[process::LOAD], &job)?.result()?;
    if let Some(error) = &measurement.first_error {
        anyhow::bail!("{} requests failed, the first with {error}", measurement.errors);
    }
    Ok(measurement)
}

/// Sends `request` once, to learn how long its answer is.
fn answer_bytes(target: &Target, request: &str) -> anyhow::Result<usize> {
    let once = request.replace(load::SEQUENCE, "0000000000000000");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let mut connection = Connection::open(target, load::client_config(target)?).await?;
        let answer = connection.exchange(once.as_bytes()).await?;
        anyhow::ensure!((200..300).contains(&answer.status), answer.refusal());
        Ok(answer.body.len())
    })
}

/// A bare server's job and the target it becomes, with certificates that live as long as they do.
///
/// # Errors
/// If no certificate can be made.
pub fn bare_pair(answer_bytes: usize) -> anyhow::Result<(bare::Job, Target)> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let issue = |name: &str| {
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(vec![name.to_owned()])?.signed_by(&key, &authority)?;
        Ok::<_, rcgen::Error>((certificate.pem(), key.serialize_pem()))
    };
    let ((chain, key), (client_chain, client_key)) = (issue("localhost")?, issue("load")?);
    let target = Target {
        address: ([127, 0, 0, 1], 0).into(),
        server_name: "localhost".to_owned(),
        roots: authority.pem(),
        chain: client_chain,
        key: client_key,
    };
    Ok((bare::Job { chain, key, roots: authority.pem(), answer_bytes }, target))
}
