package roadstead;

import static roadstead.Jms.PATIENCE;
import static roadstead.Suite.equal;

import jakarta.jms.BytesMessage;
import jakarta.jms.DeliveryMode;
import jakarta.jms.JMSException;
import jakarta.jms.Message;
import jakarta.jms.MessageConsumer;
import jakarta.jms.Queue;
import jakarta.jms.Topic;
import java.io.ByteArrayOutputStream;
import java.io.InputStream;
import java.io.PrintStream;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.apache.activemq.console.command.ShellCommand;

/** What {@code activemq producer} sends and {@code activemq consumer} takes, as it is seen by JMS. */
final class Console {
    private static final int MANY = 100;

    private Console() {}

    static void addTo(Suite suite) {
        suite.add("a-producer-and-its-messages", session -> producer());
        suite.add("a-producer-of-bytes-that-do-not-last", session -> bytes());
        suite.add("a-producer-with-transactions-and-threads", session -> transactions());
        suite.add("a-consumer-takes-so-many", session -> consumer());
        suite.add("a-consumer-that-acknowledges-itself", session -> acknowledging());
        suite.add("a-consumer-with-transactions", session -> transacted());
        suite.add("a-durable-consumer-of-a-topic", session -> durable());
    }

    /** Runs a command of ActiveMQ's with a destination and more options. */
    private static void run(String command, String destination, String... options) {
        List<String> words = new ArrayList<>(List.of(command, "--brokerUrl", Jms.uri(), "--destination", destination));
        words.addAll(List.of("--user", "guest", "--password", "guest"));
        words.addAll(List.of(options));
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        int status = ShellCommand.main(words.toArray(String[]::new), InputStream.nullInputStream(), new PrintStream(out, true));
        equal(status, 0, "the status of " + command + ", which says " + out);
    }

    private static String of(Queue queue) throws JMSException {
        return "queue://" + queue.getQueueName();
    }

    private static void producer() throws Exception {
        try (Jms jms = Jms.open()) {
            Queue queue = jms.queue("console");
            run("producer", of(queue), "--messageCount", "3", "--message", "hello");
            MessageConsumer consumer = jms.consumer(queue);
            Message first = consumer.receive(PATIENCE);
            equal(Jms.text(first), "hello", "the text");
            equal(first.getJMSDeliveryMode(), DeliveryMode.PERSISTENT, "the mode");
            Jms.expect(consumer, "hello", "hello");
            Jms.nothing(consumer);
            consumer.close();
        }
    }

    private static void bytes() throws Exception {
        try (Jms jms = Jms.open()) {
            Queue queue = jms.queue("console");
            run("producer", of(queue), "--messageCount", "2", "--messageSize", "5000", "--persistent", "false");
            MessageConsumer consumer = jms.consumer(queue);
            for (int i = 0; i < 2; i++) {
                Message message = consumer.receive(PATIENCE);
                equal(((BytesMessage) message).getBodyLength(), 5000L, "the length");
                equal(message.getJMSDeliveryMode(), DeliveryMode.NON_PERSISTENT, "the mode");
            }
            consumer.close();
        }
    }

    private static void transactions() throws Exception {
        try (Jms jms = Jms.open()) {
            Queue queue = jms.queue("console");
            // The command commits after each message whose number is a multiple, from 0 on, and rolls back what is left.
            int each = MANY + 1;
            run("producer", of(queue), "--messageCount", "" + each, "--transactionBatchSize", "10", "--parallelThreads", "2");
            MessageConsumer consumer = jms.consumer(queue);
            for (int i = 0; i < 2 * each; i++) {
                if (consumer.receive(PATIENCE) == null) {
                    throw new AssertionError(i + " messages came, not " + 2 * each);
                }
            }
            Jms.nothing(consumer);
            consumer.close();
        }
    }

    /** A command takes all but the last one of these. */
    private static void takesAllButOne(String... options) throws Exception {
        try (Jms jms = Jms.open()) {
            Queue queue = jms.queue("console");
            jms.send(queue, Jms.numbered(MANY + 1));
            List<String> words = new ArrayList<>(List.of("--messageCount", "" + MANY));
            words.addAll(List.of(options));
            run("consumer", of(queue), words.toArray(String[]::new));
            MessageConsumer consumer = jms.consumer(queue);
            Jms.expect(consumer, "m" + MANY);
            Jms.nothing(consumer);
            consumer.close();
        }
    }

    private static void consumer() throws Exception {
        takesAllButOne();
    }

    private static void acknowledging() throws Exception {
        takesAllButOne("--ackMode", "CLIENT_ACKNOWLEDGE");
    }

    private static void transacted() throws Exception {
        takesAllButOne("--transacted", "true", "--batchSize", "10");
    }

    private static void durable() throws Exception {
        try (Jms other = Jms.open()) {
            Topic topic = other.topic("console");
            String[] options = {"--messageCount", "3", "--durable", "true", "--clientId", Jms.unique("client")};
            // What is sent before the command has subscribed does not come, so it is sent until the command has enough.
            String destination = "topic://" + topic.getTopicName();
            CompletableFuture<Void> command = CompletableFuture.runAsync(() -> run("consumer", destination, options));
            while (!command.isDone()) {
                other.send(topic, "x");
                Thread.sleep(10);
            }
            command.get(PATIENCE, TimeUnit.MILLISECONDS);
        }
    }
}
