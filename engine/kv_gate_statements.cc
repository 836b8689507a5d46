// CHECK MODEL, and the gate of CREATE MODEL.
#include <string>
#include <utility>

#include "engine/kv_gate.h"
#include "engine/session.h"

namespace intarsia::engine {
namespace {

using query::ResultSet;
using query::Value;
using query::ValueKind;

// A larger model takes more than a few seconds for a quick gate.
constexpr int64_t kQuickGateBytesMax = int64_t{2} << 30;

void AddCosts(const KvFormCost& cost, std::vector<Value>* row) {
  row->emplace_back(cost.kl1);
  row->emplace_back(cost.added);
  row->emplace_back(cost.added_error);
  row->emplace_back(cost.agreement);
  row->emplace_back(cost.num_exact);
}

ResultSet RowsOf(const KvGateReport& report) {
  ResultSet result;
  result.columns = {{"form", ValueKind::kString},
                    {"chosen", ValueKind::kBoolean},
                    {"passes", ValueKind::kBoolean},
                    {"token_bytes", ValueKind::kDouble}};
  for (const std::string kind : {"alone", "fused"}) {
    result.columns.push_back({"kl1_" + kind, ValueKind::kDouble});
    result.columns.push_back({"added_" + kind, ValueKind::kDouble});
    result.columns.push_back({"error_" + kind, ValueKind::kDouble});
    result.columns.push_back({"agreement_" + kind, ValueKind::kDouble});
    result.columns.push_back({"exact_" + kind, ValueKind::kInteger});
  }
  for (const KvFormReport& form : report.forms) {
    std::vector<Value> row = {Value(KvFormName(form.form)), Value(form.form == report.choice),
                              Value(form.passes)};
    if (form.is_usable) {
      row.emplace_back(form.token_bytes);
      AddCosts(form.alone, &row);
      AddCosts(form.fused, &row);
    } else {
      row.resize(result.columns.size());
    }
    result.rows.push_back(std::move(row));
  }
  return result;
}

std::string ChoiceNotice(const storage::ModelInfo& info, const KvGateReport& report) {
  return "collections with kv_dtype = 'auto' keep the caches of " + info.name + " as " +
         std::string(KvFormName(report.choice)) + ", measured with " +
         std::to_string(report.num_prompts) + " prompts";
}

}  // namespace

Result<KvGateReport> Session::Gate(const storage::ModelInfo& info, int64_t num_prompts,
                                   const StatementContext& context) {
  INTARSIA_ASSIGN_OR_RETURN(const std::shared_ptr<const Generator> generator,
                            engine_.models()->GetGenerator(info));
  INTARSIA_ASSIGN_OR_RETURN(KvGateReport report,
                            MeasureKvForms(*generator, {.num_prompts = num_prompts,
                                                        .progress = context.progress,
                                                        .cancel = context.cancel}));
  // Measuring takes a while, in which another session may have changed or dropped the model.
  INTARSIA_ASSIGN_OR_RETURN(storage::ModelInfo now, engine_.database()->Read().GetModel(info.id));
  StoreKvGate(report, &now);
  INTARSIA_RETURN_IF_ERROR(engine_.database()->UpdateModel(now));
  return report;
}

void Session::GateNewModel(const storage::ModelInfo& info, int64_t num_prompts,
                           const StatementContext& context, ResultSet* result) {
  if (num_prompts == 0) return;
  if (num_prompts < kFullGatePrompts &&
      storage::NumberOptionOr(info.parameters, "file_bytes", 0) > kQuickGateBytesMax) {
    result->notices.push_back(
        "how its caches may be kept was not measured, because the model is large; CHECK MODEL " +
        info.name + " measures it");
    return;
  }
  const Result<KvGateReport> report = Gate(info, num_prompts, context);
  if (report.ok()) {
    result->notices.push_back(ChoiceNotice(info, *report));
  } else {
    result->notices.push_back(
        "how its caches may be kept was not measured: " + std::string(report.status().message()) +
        "; CHECK MODEL " + info.name + " measures it");
  }
}

query::Outcome<ResultSet> Session::Run(const query::CheckModel& statement,
                                       const StatementContext& context) {
  INTARSIA_ASSIGN_OR_FAIL(const storage::ModelInfo info, FindModel(statement.name));
  if (info.type != storage::ModelType::kGenerate) {
    return query::BinderError(statement.name.range,
                              "model \"" + info.name + "\" has no caches to measure",
                              "Only a model that generates has caches.");
  }
  INTARSIA_ASSIGN_OR_RETURN(const KvGateReport report, Gate(info, kFullGatePrompts, context));
  ResultSet result = RowsOf(report);
  result.notices.push_back(ChoiceNotice(info, report));
  return result;
}

}  // namespace intarsia::engine
