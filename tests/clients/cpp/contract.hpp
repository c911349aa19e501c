// The contract between a client suite and the harness that starts it.
//
// A suite prints `ok NAME`, `not ok NAME: reason` or `skip NAME: reason` for each check, then `done`, and exits with 0 if
// and only if nothing failed. It asks for a restart of the broker by printing `@restart`, and waits for `@restarted`.

#pragma once

#include <chrono>
#include <functional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

class Session;

/// Thrown by a check that cannot run here; the text says why.
struct Skipped : std::runtime_error {
    using std::runtime_error::runtime_error;
};

/// A check, which registers itself.
struct Check {
    using Run = std::function<void(Session&)>;

    Check(const std::string& name, Run run, int seconds = 15);

    std::string name;
    Run run;
    int seconds;
};

std::string unique(const std::string& kind);
void say(const std::string& line);
void restart_broker();

template <typename Text>
std::string shown(const Text& value) {
    std::ostringstream out;
    out << std::boolalpha << value;
    return out.str();
}

template <typename Text>
std::string shown(const std::vector<Text>& values) {
    std::string out = "[";
    for (const Text& value : values) out += (out.size() > 1 ? ", " : "") + shown(value);
    return out + "]";
}

template <typename Value, typename Expected>
void same(const Value& actual, const Expected& expected, const std::string& what) {
    if (!(actual == Value(expected))) {
        throw std::runtime_error(what + ": " + shown(actual) + ", expected " + shown(Value(expected)));
    }
}

/// Runs every check, or those that are named, each in a thread of its own so that none can hang, and ends the process.
[[noreturn]] void run_all(const std::vector<std::string>& wanted);
