// Program: the built `intarsia`, run as a user would.
//
// INTARSIA_PROGRAM is its path, defined by intarsia_program_test in CMake.
//
// Thread safety: owned by one thread.
#pragma once

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

namespace intarsia::client {

struct ProgramOptions {
  std::string input = {};      // Standard input.
  int64_t file_bytes_max = 0;  // No file may grow beyond this; 0: without a limit.
};

// How a program ended.
struct ProgramEnd {
  int exit_code = -1;  // -1: by a signal.
  int signal = 0;
  std::string out;
  std::string err;
};

class Program {
 public:
  explicit Program(const std::vector<std::string>& arguments, const ProgramOptions& options = {}) {
    // Files instead of pipes, so that nobody waits for a reader.
    out_ = std::tmpfile();
    err_ = std::tmpfile();
    in_ = std::tmpfile();
    EXPECT_TRUE(out_ != nullptr && err_ != nullptr && in_ != nullptr);
    std::fwrite(options.input.data(), 1, options.input.size(), in_);
    std::fflush(in_);
    ::lseek(::fileno(in_), 0, SEEK_SET);
    std::vector<std::string> words = {INTARSIA_PROGRAM};
    words.insert(words.end(), arguments.begin(), arguments.end());
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    pid_ = ::fork();
    if (pid_ != 0) return;
    // Only what may follow a fork of a process with threads.
    if (options.file_bytes_max > 0) {
      const auto limit = static_cast<rlim_t>(options.file_bytes_max);
      const rlimit limits = {limit, limit};
      ::setrlimit(RLIMIT_FSIZE, &limits);
      ::signal(SIGXFSZ, SIG_IGN);
    }
    ::dup2(::fileno(in_), STDIN_FILENO);
    ::dup2(::fileno(out_), STDOUT_FILENO);
    ::dup2(::fileno(err_), STDERR_FILENO);
    ::execv(argv[0], argv.data());
    ::_exit(127);
  }
  ~Program() {
    if (pid_ > 0) {
      Kill(SIGKILL);
      Wait();
    }
    std::fclose(out_);
    std::fclose(err_);
    std::fclose(in_);
  }
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  pid_t pid() const { return pid_; }
  void Kill(int signal) const { ::kill(pid_, signal); }
  // What it has written so far.
  std::string out() const { return Content(out_); }
  std::string err() const { return Content(err_); }

  // Waits until `condition` holds or the program ends or a minute has passed; whether it holds.
  template <typename Condition>
  bool WaitUntil(const Condition& condition) const {
    const auto end = std::chrono::steady_clock::now() + std::chrono::minutes(1);
    while (!condition()) {
      siginfo_t info{};
      const bool has_ended =
          ::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
          info.si_pid == pid_;
      if (has_ended || std::chrono::steady_clock::now() > end) return condition();
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return true;
  }

  ProgramEnd Wait() {
    int status = 0;
    while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    pid_ = -1;
    ProgramEnd end;
    if (WIFEXITED(status)) end.exit_code = WEXITSTATUS(status);
    if (WIFSIGNALED(status)) end.signal = WTERMSIG(status);
    end.out = out();
    end.err = err();
    return end;
  }

 private:
  static std::string Content(FILE* file) {
    std::string content;
    char buffer[4096];
    off_t offset = 0;
    for (;;) {
      const ssize_t size = ::pread(::fileno(file), buffer, sizeof(buffer), offset);
      if (size <= 0) return content;
      content.append(buffer, static_cast<size_t>(size));
      offset += size;
    }
  }

  FILE* out_ = nullptr;
  FILE* err_ = nullptr;
  FILE* in_ = nullptr;
  pid_t pid_ = -1;
};

// Runs it to its end.
inline ProgramEnd RunProgram(const std::vector<std::string>& arguments,
                             const ProgramOptions& options = {}) {
  return Program(arguments, options).Wait();
}

}  // namespace intarsia::client
