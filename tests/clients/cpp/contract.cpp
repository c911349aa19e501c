#include "contract.hpp"

#include <unistd.h>

#include <algorithm>
#include <cms/CMSException.h>
#include <future>
#include <iostream>
#include <random>
#include <thread>

#include "session.hpp"

using Clock = std::chrono::steady_clock;

static const std::chrono::seconds SUITE_LIMIT{105};

static std::vector<Check>& checks() {
    static std::vector<Check> all;
    return all;
}

Check::Check(const std::string& name, Run run, int seconds) : name(name), run(run), seconds(seconds) {
    checks().push_back(*this);
}

std::string unique(const std::string& kind) {
    static std::random_device random;
    std::ostringstream out;
    out << "roadstead." << kind << "." << std::hex << random() << random();
    return out.str();
}

void say(const std::string& line) {
    std::cout << line << std::endl;
}

void restart_broker() {
    say("@restart");
    std::string answer;
    if (!std::getline(std::cin, answer)) throw Skipped("nobody answers @restart on stdin");
    same(answer, "@restarted", "the answer to @restart");
}

static std::string one_line(std::string text) {
    std::replace(text.begin(), text.end(), '\n', ' ');
    return text;
}

static std::string attempt(const Check& check) {
    try {
        Session session;
        check.run(session);
        return "ok " + check.name;
    } catch (const Skipped& why) {
        return "skip " + check.name + ": " + why.what();
    } catch (const cms::CMSException& error) {
        std::cerr << check.name << ":\n" << error.getStackTraceString() << std::endl;
        return "not ok " + check.name + ": " + one_line(error.getMessage());
    } catch (const std::exception& error) {
        return "not ok " + check.name + ": " + one_line(error.what());
    }
}

static std::string verdict(const Check& check, Clock::time_point end) {
    auto promise = std::make_shared<std::promise<std::string>>();
    std::future<std::string> outcome = promise->get_future();
    std::thread([check, promise] { promise->set_value(attempt(check)); }).detach();
    const auto limit = std::min<Clock::time_point>(end, Clock::now() + std::chrono::seconds(check.seconds));
    if (outcome.wait_until(limit) == std::future_status::ready) return outcome.get();
    return "not ok " + check.name + ": no result within its time";
}

void run_all(const std::vector<std::string>& wanted) {
    const auto end = Clock::now() + SUITE_LIMIT;
    bool failed = false;
    for (const Check& check : checks()) {
        if (!wanted.empty() && std::find(wanted.begin(), wanted.end(), check.name) == wanted.end()) continue;
        const std::string line = verdict(check, end);
        failed |= line.compare(0, 6, "not ok") == 0;
        say(line);
    }
    say("done");
    _exit(failed ? 1 : 0);  // A check that timed out has left a thread behind.
}
