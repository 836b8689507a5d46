#include "engine/graph_builder.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/log.h"

namespace intarsia::engine {
namespace {

// Vectors added in one step: some tens of milliseconds, for which a change of the collection waits.
constexpr int64_t kBuildRows = 64;
// The same, while searches wait too.
constexpr int64_t kGrowRows = 32;
constexpr int64_t kFileBytesMax = int64_t{1} << 40;
// A file is written again when it lacks more than one vector in this many: the next opening adds
// the others in a moment.
constexpr int64_t kVectorsPerUnsaved = 10;
// Of fewer vectors a measurement says nothing.
constexpr int64_t kMeasuredMin = 200;

}  // namespace

GraphBuilder::GraphBuilder(const GraphBuilderOptions& options)
    : options_(options), thread_([this] { Work(); }) {}

GraphBuilder::~GraphBuilder() {
  {
    const std::scoped_lock lock(mutex_);
    is_stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

std::string GraphBuilder::PathOf(storage::CollectionId id) const {
  return options_.folder + "/graph-" + std::to_string(id) + ".gidx";
}

bool GraphBuilder::HasFile(storage::CollectionId id) const {
  return !options_.folder.empty() && options_.file_system->Exists(PathOf(id));
}

void GraphBuilder::Want(storage::CollectionId id, const std::shared_ptr<CollectionIndex>& index) {
  {
    const std::scoped_lock lock(mutex_);
    const auto is_same = [id](const Job& job) { return job.id == id; };
    if (working_on_ == id || std::any_of(jobs_.begin(), jobs_.end(), is_same)) return;
    Job& job = jobs_.emplace_back();
    job.id = id;
    job.index = index;
  }
  changed_.notify_all();
}

void GraphBuilder::Forget(storage::CollectionId id) {
  {
    const std::scoped_lock lock(mutex_);
    std::erase_if(jobs_, [id](const Job& job) { return job.id == id; });
    saved_.erase(id);
  }
  if (!HasFile(id)) return;
  const Status removed = options_.file_system->Remove(PathOf(id));
  if (!removed.ok()) Log(LogLevel::kWarning, "graph not removed: " + removed.ToString());
}

Status GraphBuilder::Drain(const CancelToken* cancel) {
  std::unique_lock lock(mutex_);
  while (!jobs_.empty() || working_on_ != 0) {
    if (cancel != nullptr) INTARSIA_RETURN_IF_ERROR(cancel->Check());
    changed_.wait_for(lock, std::chrono::milliseconds(50));
  }
  return Status::Ok();
}

void GraphBuilder::Work() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return is_stopping_ || !jobs_.empty(); });
    if (is_stopping_) return;
    Job job = std::move(jobs_.front());
    jobs_.pop_front();
    working_on_ = job.id;
    lock.unlock();
    const Result<bool> has_more = Step(&job);
    if (!has_more.ok()) {
      Log(LogLevel::kWarning, "graph not built: " + has_more.status().ToString());
    }
    lock.lock();
    working_on_ = 0;
    if (has_more.ok() && *has_more) jobs_.push_back(std::move(job));
    changed_.notify_all();
  }
}

Result<bool> GraphBuilder::Step(Job* job) {
  const std::shared_ptr<CollectionIndex> index = job->index.lock();
  if (index == nullptr) return false;
  {
    const std::shared_lock reading(index->mutex);
    if (!index->vectors.wants_graph()) return false;
    if (index->vectors.graph() == nullptr) {
      INTARSIA_ASSIGN_OR_RETURN(const bool is_building, BuildStep(job, index.get()));
      if (is_building) return true;
    }
  }
  {
    const std::unique_lock writing(index->mutex);
    VectorIndex& vectors = index->vectors;
    if (vectors.graph() == nullptr) {
      // The vectors may have changed between the two locks; then the next step begins anew.
      if (job->num_builds == vectors.num_builds()) vectors.SetGraph(std::move(job->graph));
      return true;
    }
    if (vectors.graph()->size() < vectors.num_in_flat()) {
      INTARSIA_RETURN_IF_ERROR(vectors.GrowGraph(kGrowRows, options_.num_threads));
      return true;
    }
  }
  INTARSIA_RETURN_IF_ERROR(Measure(index.get()));
  INTARSIA_RETURN_IF_ERROR(Save(*job, index.get()));
  return false;
}

Status GraphBuilder::Measure(CollectionIndex* index) {
  int64_t num_builds = 0;
  index::GraphMeasure measure;
  {
    const std::shared_lock reading(index->mutex);
    const VectorIndex& vectors = index->vectors;
    if (vectors.graph() == nullptr || vectors.graph_measure().has_value() ||
        vectors.num_vectors(index->rows) < kMeasuredMin) {
      return Status::Ok();
    }
    num_builds = vectors.num_builds();
    INTARSIA_ASSIGN_OR_RETURN(measure, vectors.MeasureGraph(index->rows));
  }
  const std::unique_lock writing(index->mutex);
  if (index->vectors.num_builds() == num_builds) index->vectors.SetGraphMeasure(measure);
  return Status::Ok();
}

Result<bool> GraphBuilder::BuildStep(Job* job, CollectionIndex* index) {
  const VectorIndex& vectors = index->vectors;
  if (job->graph == nullptr || job->num_builds != vectors.num_builds()) {
    std::string bytes;
    if (HasFile(job->id)) {
      Result<std::string> read = options_.file_system->ReadAll(PathOf(job->id), kFileBytesMax);
      if (read.ok()) bytes = *std::move(read);
    }
    INTARSIA_ASSIGN_OR_RETURN(job->graph, vectors.StartGraph(bytes));
    job->num_builds = vectors.num_builds();
    const std::scoped_lock lock(mutex_);
    saved_[job->id] = job->graph->size();  // 0 if there was no file that fits
  }
  const int64_t end = std::min(vectors.num_in_flat(), job->graph->size() + kBuildRows);
  INTARSIA_RETURN_IF_ERROR(job->graph->Append(end, options_.num_threads));
  return job->graph->size() < vectors.num_in_flat();
}

Status GraphBuilder::Save(const Job& job, CollectionIndex* index) {
  if (options_.folder.empty()) return Status::Ok();
  std::string bytes;
  {
    const std::shared_lock reading(index->mutex);
    const index::GraphIndex* const graph = index->vectors.graph();
    if (graph == nullptr || index->vectors.is_damaged()) return Status::Ok();
    const std::scoped_lock lock(mutex_);
    int64_t& num_saved = saved_[job.id];
    if (num_saved > 0 && (graph->size() - num_saved) * kVectorsPerUnsaved <= graph->size()) {
      return Status::Ok();
    }
    bytes = graph->Save();
    num_saved = graph->size();
  }
  INTARSIA_RETURN_IF_ERROR(options_.file_system->CreateDirectories(options_.folder));
  return options_.file_system->WriteAtomically(PathOf(job.id), bytes);
}

}  // namespace intarsia::engine
