# frozen_string_literal: true

# The contract between a client suite and the harness that starts it.
#
# A suite prints `ok NAME`, `not ok NAME: reason` or `skip NAME: reason` for each check, then `done`, and exits with 0 if
# and only if nothing failed. It asks for a restart of the broker by printing `@restart`, and waits for `@restarted`.

require "securerandom"

module Checks
  SUITE_SECONDS = 105
  CHECK_SECONDS = 15

  # Raised by a check that cannot run here; the message says why.
  class Skipped < StandardError; end

  Check = Struct.new(:name, :seconds, :run)
  ALL = []

  module_function

  # Registers a check, whose block gets a session of its own.
  def check(name, seconds = CHECK_SECONDS, &run)
    ALL << Check.new(name, seconds, run)
  end

  def unique(kind)
    "roadstead.#{kind}.#{SecureRandom.hex(6)}"
  end

  def equal(actual, expected, what)
    raise "#{what}: #{actual.inspect}, expected #{expected.inspect}" unless actual == expected
  end

  def now
    Process.clock_gettime(Process::CLOCK_MONOTONIC)
  end

  # Polls what the broker does not announce.
  def wait_until(what, seconds = 5)
    deadline = now + seconds
    until yield
      raise "not within #{seconds} s: #{what}" if now > deadline

      sleep 0.02
    end
  end

  def restart_broker
    say "@restart"
    answer = $stdin.gets
    raise Skipped, "nobody answers @restart on stdin" if answer.nil?

    equal(answer.strip, "@restarted", "the answer to @restart")
  end

  def say(line)
    $stdout.puts(line)
    $stdout.flush
  end

  # Runs every check, each in a thread of its own so that none can hang, and ends the process.
  def run_all(open_session)
    deadline = now + SUITE_SECONDS
    wanted = ALL.select { |check| ARGV.empty? || ARGV.include?(check.name) }
    verdicts = wanted.map do |check|
      verdict(check, open_session, [check.seconds, deadline - now].min).tap { |line| say line }
    end
    say "done"
    exit!(verdicts.none? { |line| line.start_with?("not ok") }) # a check that timed out has left a thread behind
  end

  def verdict(check, open_session, seconds)
    return "not ok #{check.name}: the suite's #{SUITE_SECONDS} s are over" if seconds <= 0

    thread = Thread.new { attempt(check, open_session) }
    thread.report_on_exception = false
    thread.join(seconds) ? thread.value : "not ok #{check.name}: no result within #{seconds.round} s"
  end

  def attempt(check, open_session)
    session = open_session.call
    begin
      check.run.call(session)
    ensure
      session.close
    end
    "ok #{check.name}"
  rescue Skipped => why
    "skip #{check.name}: #{why.message}"
  rescue StandardError => error
    warn error.full_message(highlight: false)
    "not ok #{check.name}: #{error.class}: #{error.message.split.join(' ')}"
  end
end
