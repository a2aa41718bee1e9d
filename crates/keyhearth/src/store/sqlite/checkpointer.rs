//! Moves committed pages from the write-ahead log into the database file, beside the commits.
//!
//! SQLite would do this inside the commit that crosses a threshold and ignore its errors. Here a thread
//! does the bulk while commits go on, then holds the writer for the few frames that arrived meanwhile:
//! only a log that was moved whole can be written from its start again, so it does not grow for ever.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use parking_lot::Mutex;
use rusqlite::Connection;

use super::failure::{abort, is_unknown};
use super::writer::Writer;

/// Pages in the write-ahead log from which on they are moved: 16 MiB.
const WAL_PAGES_DUE: i32 = 4096;

/// The thread, and what wakes it. Dropping it waits for a move under way.
pub(super) struct Checkpointer {
    wal_pages: Arc<AtomicI32>,
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    /// `wal_pages` is what the writer's last commit found in the write-ahead log.
    pub(super) fn start(
        connection: Connection,
        writer: Arc<Mutex<Writer>>,
        wal_pages: Arc<AtomicI32>,
    ) -> std::io::Result<Self> {
        let (wake, woken) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("checkpointer".into())
            .spawn(move || run(&connection, &writer, &woken))?;
        Ok(Self { wal_pages, wake: Some(wake), thread: Some(thread) })
    }

    pub(super) fn wake_if_due(&self) {
        if self.wal_pages.load(Ordering::Relaxed) >= WAL_PAGES_DUE
            && let Some(wake) = &self.wake
        {
            // Full means that it is about to run anyway.
            let _ = wake.try_send(());
        }
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            // The thread cannot panic: it only moves pages, and aborts the process itself.
            let _ = thread.join();
        }
    }
}

fn run(connection: &Connection, writer: &Mutex<Writer>, woken: &Receiver<()>) {
    while woken.recv().is_ok() {
        checkpoint(connection);
        let _held = writer.lock();
        checkpoint(connection);
    }
}

/// Moves what no reader holds back. If there is no room the next wake tries again.
fn checkpoint(connection: &Connection) {
    match connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())) {
        Ok(()) => {}
        Err(error) if is_unknown(&error, false) => abort(&error),
        Err(error) => tracing::warn!(%error, "the write-ahead log could not be moved; trying again later"),
    }
}
