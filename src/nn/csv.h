// Logs as lines of comma-separated values (RFC 4180).
#pragma once

#include <cstdint>
#include <string>

#include "mica/nn/callbacks.h"

namespace mica::nn {

/// "epoch,loss,accuracy\n"
std::string csv_header(const Logs& logs);
/// "1,0.25,0.9\n": the columns of `header`, empty where `logs` lacks one.
std::string csv_row(int64_t epoch, const Logs& header, const Logs& logs);

}  // namespace mica::nn
