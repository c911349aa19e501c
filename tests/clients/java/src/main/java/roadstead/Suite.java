package roadstead;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

/**
 * The contract between a client suite and the harness that starts it.
 *
 * <p>A suite prints {@code ok NAME}, {@code not ok NAME: reason} or {@code skip NAME: reason} for each check, then
 * {@code done}, and exits with 0 if and only if nothing failed. It asks for a restart of the broker by printing
 * {@code @restart}, and waits for {@code @restarted} on its standard input.
 */
final class Suite {
    static final long EVENT_MILLIS = 5_000;
    private static final long SUITE_MILLIS = 110_000;
    private static final long CHECK_MILLIS = 15_000;
    private static final PrintStream VERDICTS = System.out;
    private static final BufferedReader ANSWERS = new BufferedReader(new InputStreamReader(System.in));

    interface Check {
        void run(Session session) throws Exception;
    }

    interface Condition {
        boolean holds() throws Exception;
    }

    static final class Skipped extends RuntimeException {
        Skipped(String reason) {
            super(reason);
        }
    }

    private record Named(String name, long millis, Check check) {}

    private final List<Named> checks = new ArrayList<>();
    private final ExecutorService threads = Executors.newCachedThreadPool(Suite::daemon);

    void add(String name, Check check) {
        add(name, CHECK_MILLIS, check);
    }

    void add(String name, long millis, Check check) {
        checks.add(new Named(name, millis, check));
    }

    /** Runs the checks that are named, or all, and says whether none failed. */
    boolean run(List<String> only) {
        long end = System.currentTimeMillis() + SUITE_MILLIS;
        boolean good = true;
        for (Named each : checks) {
            if (only.isEmpty() || only.contains(each.name)) {
                String verdict = verdict(each, Math.min(each.millis, end - System.currentTimeMillis()));
                good &= !verdict.startsWith("not ok");
                VERDICTS.println(verdict);
            }
        }
        VERDICTS.println("done");
        return good;
    }

    private String verdict(Named each, long millis) {
        Future<?> attempt = threads.submit(() -> {
            try (Session session = new Session()) {
                each.check.run(session);
            }
            return null;
        });
        try {
            attempt.get(Math.max(millis, 0), TimeUnit.MILLISECONDS);
            return "ok " + each.name;
        } catch (TimeoutException late) {
            return "not ok " + each.name + ": no result within " + millis + " ms";
        } catch (ExecutionException failure) {
            return verdict(each, failure.getCause());
        } catch (InterruptedException interrupted) {
            throw new IllegalStateException(interrupted);
        }
    }

    private static String verdict(Named each, Throwable failure) {
        if (failure instanceof Skipped) {
            return "skip " + each.name + ": " + failure.getMessage();
        }
        failure.printStackTrace();
        return "not ok " + each.name + ": " + failure.toString().replaceAll("\\s+", " ");
    }

    private static Thread daemon(Runnable work) {
        Thread thread = new Thread(work);
        thread.setDaemon(true);
        return thread;
    }

    static void equal(Object actual, Object expected, String what) {
        if (!Objects.deepEquals(actual, expected)) {
            throw new AssertionError(what + " is " + actual + ", expected " + expected);
        }
    }

    /** Polls what the broker does not announce. */
    static void until(Condition condition, String what) throws Exception {
        long end = System.currentTimeMillis() + EVENT_MILLIS;
        while (!condition.holds()) {
            if (System.currentTimeMillis() > end) {
                throw new AssertionError("not within " + EVENT_MILLIS + " ms: " + what);
            }
            Thread.sleep(20);
        }
    }

    static void restartBroker() throws IOException {
        ask("@restart", "@restarted");
    }

    /** Imports definitions in RabbitMQ's format. */
    static void define(String json) throws IOException {
        ask("@define " + json, "@defined");
    }

    private static void ask(String request, String expected) throws IOException {
        VERDICTS.println(request);
        String name = request.split(" ")[0];
        String answer = ANSWERS.readLine();
        if (answer == null) {
            throw new Skipped("nobody answers " + name + " on stdin");
        }
        equal(answer.strip(), expected, "the answer to " + name);
    }
}
