// GraphBuilder: makes graphs over vectors in the background, on a thread of its own.
//
// A graph grows by small steps, between which searches and changes of the collection go on. When it
// holds all vectors, it is given to the collection, measured, and written to a file, so that the
// next opening need not make it again. The file is a cache: it is used only if it is about exactly
// the vectors that are there, and whatever is wrong with it, the graph is made anew.
//
// Thread safety: thread-safe.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "base/cancel.h"
#include "base/file.h"
#include "engine/collection_index.h"
#include "index/graph_index.h"
#include "storage/ids.h"

namespace intarsia::engine {

struct GraphBuilderOptions {
  FileSystem* file_system = FileSystem::Local();  // outlives the builder
  std::string folder;                             // of the files; empty: none are kept
  int num_threads = 1;                            // that add vectors
};

class GraphBuilder {
 public:
  explicit GraphBuilder(const GraphBuilderOptions& options);
  // Stops after the step at work.
  ~GraphBuilder();
  GraphBuilder(const GraphBuilder&) = delete;
  GraphBuilder& operator=(const GraphBuilder&) = delete;

  // Sees to it that the graph of a collection which wants one becomes complete.
  void Want(storage::CollectionId id, const std::shared_ptr<CollectionIndex>& index);
  // Whether a graph of the collection was once complete.
  bool HasFile(storage::CollectionId id) const;
  // Removes what is kept of a dropped collection.
  void Forget(storage::CollectionId id);
  // Waits until nothing is left to do. Errors: kCancelled.
  Status Drain(const CancelToken* cancel);

 private:
  struct Job {
    storage::CollectionId id = 0;
    std::weak_ptr<CollectionIndex> index;
    std::unique_ptr<index::GraphIndex> graph;  // not yet given away
    int64_t num_builds = -1;                   // of the vectors that it is about
  };

  void Work();
  // One step of a job. Returns whether there is more to do.
  Result<bool> Step(Job* job);
  Result<bool> BuildStep(Job* job, CollectionIndex* index);
  // Measures a complete graph that was not measured yet.
  Status Measure(CollectionIndex* index);
  Status Save(const Job& job, CollectionIndex* index);
  std::string PathOf(storage::CollectionId id) const;

  const GraphBuilderOptions options_;
  std::mutex mutex_;
  std::condition_variable changed_;
  // Guarded by mutex_.
  std::deque<Job> jobs_;
  storage::CollectionId working_on_ = 0;
  std::map<storage::CollectionId, int64_t> saved_;  // vectors in the files, as far as known
  bool is_stopping_ = false;
  std::thread thread_;  // last: it uses everything above
};

}  // namespace intarsia::engine
