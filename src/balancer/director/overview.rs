//! What the API shows of the backends.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::balancer::roster::{Backend, BackendRecord, Directory};

/// The last records of all backends, with counters as they are now. Written by
/// the director once a second and when something changes, read for requests to
/// the API only.
#[derive(Debug, Default)]
pub struct Overview(Mutex<View>);

#[derive(Debug, Default)]
struct View {
    directory: Arc<Directory>,
    records: Arc<[BackendRecord]>,
}

impl Overview {
    /// All backends, in the order of their ids.
    pub fn records(&self) -> Vec<BackendRecord> {
        let (directory, records) = {
            let view = self.view();
            (Arc::clone(&view.directory), Arc::clone(&view.records))
        };
        let mut backends: Vec<&Arc<Backend>> = directory.backends.iter().collect();
        backends.sort_unstable_by_key(|backend| backend.id);
        let mut records = records.to_vec();
        for record in &mut records {
            if let Ok(index) = backends.binary_search_by_key(&record.id, |backend| backend.id) {
                record.count(backends[index]);
            }
        }
        records
    }

    /// The backends as they were last published.
    pub fn directory(&self) -> Arc<Directory> {
        Arc::clone(&self.view().directory)
    }

    pub(super) fn show(&self, directory: &Arc<Directory>, records: &Arc<[BackendRecord]>) {
        *self.view() = View { directory: Arc::clone(directory), records: Arc::clone(records) };
    }

    fn view(&self) -> MutexGuard<'_, View> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
