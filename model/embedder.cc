#include "model/embedder.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "base/aligned_array.h"
#include "model/bert.h"
#include "model/embedder_config.h"
#include "model/encoder_files.h"
#include "model/wordpiece_tokenizer.h"

namespace intarsia::model {
namespace {

// Texts tokenised ahead. Only these are sorted by length, so memory does not grow with the request.
constexpr int64_t kWindowTexts = 512;

// Everything that shapes a vector, but the rounding of the arithmetic.
Digest DigestOfModel(const EncoderFiles& files) {
  const EmbedderConfig& config = files.config;
  DigestBuilder digest;
  digest.Add("embedder 1");
  AddEncoder(files, &digest);
  return digest.Add(static_cast<int64_t>(config.pooling))
      .Add(int64_t{config.max_tokens})
      .Add(config.query_prompt)
      .Add(config.document_prompt)
      .Finish();
}

// Texts as ids, one behind the other.
struct Batch {
  std::vector<int32_t> ids;
  std::vector<int64_t> row_begins = {0};
  std::vector<int64_t> texts;  // which text each is
};

class BertEmbedder final : public Embedder {
 public:
  BertEmbedder(EmbedderConfig config, std::unique_ptr<const WordPieceTokenizer> tokenizer,
               std::unique_ptr<const Bert> bert, const Digest& digest, ThreadPool* pool)
      : config_(std::move(config)),
        tokenizer_(std::move(tokenizer)),
        bert_(std::move(bert)),
        digest_(digest),
        pool_(pool) {}

  int32_t dimension() const override { return config_.bert.hidden_size; }
  int32_t max_tokens() const override { return config_.max_tokens; }
  Digest digest() const override { return digest_; }

  Status Embed(std::span<const std::string_view> texts, TextRole role, float* vectors,
               const CancelToken* cancel) const override {
    const auto num_texts = static_cast<int64_t>(texts.size());
    for (int64_t begin = 0; begin < num_texts; begin += kWindowTexts) {
      const int64_t count = std::min(kWindowTexts, num_texts - begin);
      INTARSIA_RETURN_IF_ERROR(
          EmbedWindow(texts.subspan(static_cast<size_t>(begin), static_cast<size_t>(count)), role,
                      vectors + begin * dimension(), cancel));
    }
    return Status::Ok();
  }

 private:
  Status EmbedWindow(std::span<const std::string_view> texts, TextRole role, float* vectors,
                     const CancelToken* cancel) const {
    INTARSIA_ASSIGN_OR_RETURN(const std::vector<std::vector<int32_t>> ids, Tokenize(texts, role));
    // Texts of one length together: then attention shares its work evenly among the threads.
    std::vector<int64_t> order(ids.size());
    std::iota(order.begin(), order.end(), 0);
    const auto length = [&](int64_t text) { return ids[static_cast<size_t>(text)].size(); };
    std::stable_sort(order.begin(), order.end(),
                     [&](int64_t a, int64_t b) { return length(a) > length(b); });
    for (size_t next = 0; next < order.size();) {
      if (cancel != nullptr) INTARSIA_RETURN_IF_ERROR(cancel->Check());
      Batch batch;
      for (; next < order.size(); ++next) {
        const std::vector<int32_t>& text = ids[static_cast<size_t>(order[next])];
        if (!batch.ids.empty() &&
            static_cast<int64_t>(batch.ids.size() + text.size()) > kEncoderBatchRowsMax) {
          break;
        }
        batch.ids.insert(batch.ids.end(), text.begin(), text.end());
        batch.row_begins.push_back(static_cast<int64_t>(batch.ids.size()));
        batch.texts.push_back(order[next]);
      }
      INTARSIA_RETURN_IF_ERROR(EmbedBatch(batch, vectors));
    }
    return Status::Ok();
  }

  Result<std::vector<std::vector<int32_t>>> Tokenize(std::span<const std::string_view> texts,
                                                     TextRole role) const {
    const std::string& prompt =
        role == TextRole::kQuery ? config_.query_prompt : config_.document_prompt;
    std::vector<std::vector<int32_t>> ids(texts.size());
    std::vector<Status> statuses(texts.size());
    pool_->ParallelFor(static_cast<int64_t>(texts.size()), [&](int64_t index, int /*worker*/) {
      const auto text = static_cast<size_t>(index);
      std::string with_prompt;
      if (!prompt.empty()) with_prompt.append(prompt).append(texts[text]);
      auto encoded = tokenizer_->EncodeSequence(
          prompt.empty() ? texts[text] : std::string_view(with_prompt), config_.max_tokens);
      if (encoded.ok()) {
        ids[text] = *std::move(encoded);
      } else {
        statuses[text] = std::move(encoded).status();
      }
    });
    for (const Status& status : statuses) INTARSIA_RETURN_IF_ERROR(status);
    return ids;
  }

  Status EmbedBatch(const Batch& batch, float* vectors) const {
    const int64_t dim = dimension();
    INTARSIA_ASSIGN_OR_RETURN(AlignedArray<float> hidden,
                              AlignedArray<float>::TryCreate(std::ssize(batch.ids) * dim));
    INTARSIA_RETURN_IF_ERROR(
        bert_->Forward({.ids = batch.ids, .row_begins = batch.row_begins}, hidden.data(), pool_));
    for (size_t i = 0; i < batch.texts.size(); ++i) {
      const int64_t begin = batch.row_begins[i];
      const int64_t num_rows =
          config_.pooling == Pooling::kClsToken ? 1 : batch.row_begins[i + 1] - begin;
      INTARSIA_RETURN_IF_ERROR(
          Pool(hidden.data() + begin * dim, num_rows, vectors + batch.texts[i] * dim));
    }
    return Status::Ok();
  }

  // The direction of the sum of `num_rows` rows, which is that of their mean.
  Status Pool(const float* rows, int64_t num_rows, float* vector) const {
    const int64_t dim = dimension();
    std::copy(rows, rows + dim, vector);
    for (int64_t row = 1; row < num_rows; ++row) {
      for (int64_t i = 0; i < dim; ++i) vector[i] += rows[row * dim + i];
    }
    double square_sum = 0.0;
    for (int64_t i = 0; i < dim; ++i) square_sum += double{vector[i]} * double{vector[i]};
    if (!std::isfinite(square_sum) || square_sum <= 0.0) {
      return {StatusCode::kCorruption,
              "embedder's weights give a vector without a direction: square_sum=" +
                  std::to_string(square_sum)};
    }
    const auto scale = static_cast<float>(1.0 / std::sqrt(square_sum));
    for (int64_t i = 0; i < dim; ++i) vector[i] *= scale;
    return Status::Ok();
  }

  const EmbedderConfig config_;
  const std::unique_ptr<const WordPieceTokenizer> tokenizer_;
  const std::unique_ptr<const Bert> bert_;
  const Digest digest_;
  ThreadPool* const pool_;
};

}  // namespace

Result<std::unique_ptr<Embedder>> Embedder::Load(const std::string& folder,
                                                 const EmbedderOptions& options) {
  if (options.pool == nullptr) {
    return Status(StatusCode::kInvalidArgument, "an embedder needs a thread pool");
  }
  INTARSIA_ASSIGN_OR_RETURN(EncoderFiles files, OpenEncoder(folder, options));
  INTARSIA_ASSIGN_OR_RETURN(std::unique_ptr<const Bert> bert, LoadEncoder(files, options));
  const Digest digest = DigestOfModel(files);
  return std::make_unique<BertEmbedder>(std::move(files.config), std::move(files.tokenizer),
                                        std::move(bert), digest, options.pool);
}

}  // namespace intarsia::model
