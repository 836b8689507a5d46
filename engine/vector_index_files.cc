// How vectors come in: from files that an earlier opening wrote, and from the database; and how
// they go into files.
#include <algorithm>
#include <random>
#include <utility>

#include "base/log.h"
#include "engine/vector_index.h"

namespace intarsia::engine {
namespace {

// Appends a vector that stands for none. Each is another one: if they were alike, a graph would
// link them to each other and to nothing else.
void AppendPlaceholder(storage::ChunkId chunk, int64_t dim, std::vector<float>* values) {
  std::minstd_rand random(static_cast<uint32_t>(chunk * 2 + 1));
  for (int64_t i = 0; i < dim; ++i) {
    values->push_back((random() & 0x1000) != 0 ? 1.0F : -1.0F);
  }
}

}  // namespace

void VectorIndex::Clear() {
  ++num_builds_;
  generation_ = 0;
  flat_.reset();
  SetCodes(nullptr);
  graph_.reset();
  graph_measure_.reset();
  missing_ = index::RowSet();
}

void VectorIndex::OpenChain(const storage::ReadView& view, storage::CollectionId collection) {
  if (!is_chain_known_ && files_ != nullptr) chain_ = files_->Open(view, collection);
  is_chain_known_ = true;
}

std::vector<storage::ChunkId> VectorIndex::FindKnownChunks(const storage::ReadView& view,
                                                           storage::CollectionId collection) {
  OpenChain(view, collection);
  std::vector<storage::ChunkId> known;
  for (const auto& file : chain_) known.insert(known.end(), file->ids().begin(), file->ids().end());
  return known;
}

void VectorIndex::DropChain(const char* why) {
  if (chain_.empty()) return;
  Log(LogLevel::kWarning,
      "vectors are read from the database again, not from files: path=" + chain_.front()->path() +
          " files=" + std::to_string(chain_.size()) + " reason=" + why);
  files_->Remove(chain_);
  chain_.clear();
}

Status VectorIndex::Drop(storage::CollectionId collection) {
  Clear();
  chain_.clear();
  is_chain_known_ = true;
  return files_ == nullptr ? Status::Ok() : files_->RemoveAll(collection);
}

Status VectorIndex::Refresh(storage::Database* database, const storage::ReadView& view,
                            storage::CollectionId collection, storage::ModelId model,
                            const RowIndex& rows, ThreadPool* pool) {
  if (IsCurrent(rows, model)) return Status::Ok();
  INTARSIA_ASSIGN_OR_RETURN(const uint64_t changed_at, view.VectorsChangedAt(collection));
  if (is_damaged()) DropChain("a vector in them is damaged");
  if (is_damaged() || model_ != model || epoch_ != rows.epoch() || changed_at_ != changed_at) {
    Clear();
  }
  model_ = model;
  epoch_ = rows.epoch();
  changed_at_ = changed_at;
  Status status = TakeUp(database, view, collection, rows, pool);
  if (!status.ok() && is_damaged()) {
    DropChain("a vector in them is damaged");
    Clear();
    status = TakeUp(database, view, collection, rows, pool);
  }
  if (!status.ok()) {
    Clear();
    return status;
  }
  generation_ = rows.generation();
  if (num_vectors(rows) >= options_.graph_min) wants_graph_ = true;
  WriteFiles(collection, rows);
  return Status::Ok();
}

Status VectorIndex::TakeUp(storage::Database* database, const storage::ReadView& view,
                           storage::CollectionId collection, const RowIndex& rows,
                           ThreadPool* pool) {
  if (flat_ == nullptr) INTARSIA_RETURN_IF_ERROR(Build(view, collection, rows));
  if (flat_ != nullptr) INTARSIA_RETURN_IF_ERROR(Append(view, collection, rows));
  INTARSIA_RETURN_IF_ERROR(RefreshProfile(database, view, collection, rows, pool));
  return RefreshCodes(pool);
}

Status VectorIndex::Build(const storage::ReadView& view, storage::CollectionId collection,
                          const RowIndex& rows) {
  INTARSIA_ASSIGN_OR_RETURN(const storage::CollectionStats stats, view.GetStats(collection));
  const auto of_model =
      std::ranges::find(stats.vectors, model_, &storage::CollectionStats::Vectors::model);
  if (of_model == stats.vectors.end() || of_model->num_vectors == 0) return Status::Ok();
  INTARSIA_ASSIGN_OR_RETURN(flat_, index::FlatIndex::Create({.dim = of_model->dimension,
                                                             .page_rows = options_.page_rows}));
  flat_->Reserve(rows.num_rows());
  return AddFiles(view, collection, rows);
}

bool VectorIndex::FitsRows(const RowIndex& rows) const {
  if (chain_.back()->end_row() > rows.num_rows()) return false;
  for (const auto& file : chain_) {
    const int64_t begin = file->header().first_row;
    const auto chunks = rows.chunks().subspan(static_cast<size_t>(begin), file->ids().size());
    const std::vector<uint64_t> contents = rows.ContentsOf(begin, file->end_row());
    // What was gone before the rows were numbered has no content, and is not asked for.
    const auto is_same = [](uint64_t now, uint64_t then) { return now == 0 || now == then; };
    if (!std::ranges::equal(chunks, file->ids()) ||
        !std::ranges::equal(contents, file->contents(), is_same)) {
      return false;
    }
  }
  return true;
}

Status VectorIndex::AddFiles(const storage::ReadView& view, storage::CollectionId collection,
                             const RowIndex& rows) {
  OpenChain(view, collection);
  if (chain_.empty()) return Status::Ok();
  const index::VectorFileHeader& header = chain_.front()->header();
  const bool fits = header.identity.model == model_ && header.identity.generation >= changed_at_ &&
                    header.dim == flat_->dim() && header.metric == flat_->metric() &&
                    FitsRows(rows);
  if (!fits) {
    DropChain("they are not those of the collection any more");
    return Status::Ok();
  }
  const auto add = [&]() -> Status {
    INTARSIA_ASSIGN_OR_RETURN(
        auto codes, index::BinaryIndex::Restore(chain_.front()->space(), rows.num_rows()));
    SetCodes(std::move(codes));
    for (const auto& file : chain_) {
      INTARSIA_RETURN_IF_ERROR(flat_->AddForeign(file->ids(), index::VectorFile::RowsOf(file)));
      INTARSIA_RETURN_IF_ERROR(binary_->AppendBlocks(file->codes(), file->header().num_rows));
    }
    return Status::Ok();
  };
  if (const Status status = add(); !status.ok()) {
    DropChain(std::string(status.message()).c_str());
    SetCodes(nullptr);
    INTARSIA_ASSIGN_OR_RETURN(
        flat_, index::FlatIndex::Create({.dim = flat_->dim(), .page_rows = options_.page_rows}));
  }
  return Status::Ok();
}

Status VectorIndex::Append(const storage::ReadView& view, storage::CollectionId collection,
                           const RowIndex& rows) {
  const auto fresh = rows.chunks().subspan(static_cast<size_t>(flat_->size()));
  if (fresh.empty()) return Status::Ok();
  std::vector<storage::ChunkId> ids;
  std::vector<float> values;
  const auto flush = [&]() -> Status {
    INTARSIA_RETURN_IF_ERROR(flat_->Add(ids, values));
    ids.clear();
    values.clear();
    return Status::Ok();
  };
  // Takes up chunks before `end` that have no vector. They get one that no search sees.
  size_t next = 0;
  const auto pass_over = [&](storage::ChunkId end) {
    for (; next < fresh.size() && fresh[next] < end; ++next) {
      const int64_t row = flat_->size() + std::ssize(ids);
      missing_.AddRange(row, row + 1);
      ids.push_back(fresh[next]);
      AppendPlaceholder(fresh[next], flat_->dim(), &values);
    }
  };
  INTARSIA_RETURN_IF_ERROR(
      view.ForEachVector(collection, model_, fresh.front(),
                         [&](storage::ChunkId chunk, std::span<const float> vector) -> Status {
                           pass_over(chunk);
                           if (next >= fresh.size() || fresh[next] != chunk) return Status::Ok();
                           ++next;
                           ids.push_back(chunk);
                           values.insert(values.end(), vector.begin(), vector.end());
                           return std::ssize(ids) < options_.page_rows ? Status::Ok() : flush();
                         }));
  pass_over(fresh.back() + 1);
  return flush();
}

int64_t VectorIndex::FirstRowToWrite(int64_t end, size_t* num_kept) const {
  *num_kept = chain_.size();
  int64_t begin = chain_.empty() ? 0 : chain_.back()->end_row();
  // Codes that were found anew are written anew.
  if (!chain_.empty() && chain_.front()->space() != binary_->space()) {
    *num_kept = 0;
    return 0;
  }
  // A file that is not far larger than what comes is written together with it: so each row is
  // written as often as the number of rows has doubled, and there are no more files than that.
  if (end - begin < options_.file_rows_min) return end;
  for (; *num_kept > 0; --*num_kept) {
    const index::VectorFileHeader& last = chain_[*num_kept - 1]->header();
    if (last.num_rows >= 2 * (end - begin)) break;
    begin = last.first_row;
  }
  return begin;
}

void VectorIndex::WriteFiles(storage::CollectionId collection, const RowIndex& rows) {
  if (files_ == nullptr || !files_->is_writable() || binary_ == nullptr) return;
  const int64_t end = flat_->size() / options_.page_rows * options_.page_rows;
  if (end < options_.file_rows_min || end < write_at_) return;
  size_t num_kept = 0;
  const int64_t begin = FirstRowToWrite(end, &num_kept);
  if (begin >= end) return;
  // A chunk that lacks its vector may get it later.
  index::RowSet lacking = index::RowSet::FromWords(rows.live_words());
  lacking.And(missing_);
  if (!lacking.is_empty()) return;
  const std::vector<uint64_t> contents = rows.ContentsOf(begin, end);
  auto written =
      files_->Write({.identity = files_->IdentityOf(collection, model_, rows.generation()),
                     .rows = flat_.get(),
                     .codes = binary_.get(),
                     .begin = begin,
                     .end = end,
                     .contents = contents});
  Status status = written.status();
  if (status.ok()) status = flat_->MoveTo(begin, index::VectorFile::RowsOf(*written));
  if (!status.ok()) {
    // They stay in memory; the next attempt waits until there are many more.
    write_at_ = end + std::max(end / 4, options_.file_rows_min);
    Log(LogLevel::kWarning, "vectors not written to a file: " + status.ToString());
    return;
  }
  VectorFileChain replaced(chain_.begin() + static_cast<std::ptrdiff_t>(num_kept), chain_.end());
  std::erase_if(replaced, [&](const auto& file) { return file->path() == (*written)->path(); });
  chain_.resize(num_kept);
  chain_.push_back(*std::move(written));
  files_->Remove(replaced);
}

int64_t VectorIndex::file_bytes() const {
  int64_t bytes = 0;
  for (const auto& file : chain_) bytes += file->num_bytes();
  return bytes;
}

}  // namespace intarsia::engine
