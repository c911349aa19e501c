package roadstead;

import static roadstead.Jms.PATIENCE;
import static roadstead.Jms.expect;
import static roadstead.Jms.nothing;
import static roadstead.Jms.numbered;
import static roadstead.Jms.text;
import static roadstead.Jms.texts;
import static roadstead.Suite.equal;

import jakarta.jms.DeliveryMode;
import jakarta.jms.Destination;
import jakarta.jms.Message;
import jakarta.jms.MessageConsumer;
import jakarta.jms.MessageProducer;
import jakarta.jms.Queue;
import jakarta.jms.Session;
import jakarta.jms.TextMessage;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.apache.activemq.ActiveMQMessageProducer;

/** Producers: what they set, where they send to, and when they are told that it is done. */
final class JmsProducers {
    private JmsProducers() {}

    static void addTo(Suite suite) {
        suite.add("priorities-are-carried", session -> priorities());
        suite.add("a-producer-sets-priority-mode-and-time", session -> defaults());
        suite.add("without-timestamps", session -> noTimestamps());
        suite.add("without-message-ids", session -> noIds());
        suite.add("no-time-to-live-is-for-ever", session -> forever());
        suite.add("a-message-may-expire-in-the-window", session -> expiresInWindow());
        suite.add("expired-before-it-is-sent", session -> expiredBefore());
        suite.add("told-of-each-send", session -> callbacks());
        suite.add("one-producer-for-many-destinations", session -> anonymous());
        suite.add("a-message-may-be-sent-again-with-changes", session -> reused());
        suite.add("a-message-may-be-passed-on", session -> passedOn());
        suite.add("reply-to-of-each-kind", session -> replyTo());
        suite.add("correlation-ids-of-bytes", session -> correlationBytes());
        suite.add("always-waiting-for-the-broker", session -> alwaysSync());
        suite.add("without-copies-of-messages", session -> noCopies());
        suite.add("ten-producers-at-once", session -> ten());
        suite.add("names-of-all-sorts", session -> names());
        suite.add("to-a-pattern-of-queues", session -> pattern());
        suite.add("to-many-queues-at-once", session -> manyAtOnce());
        suite.add("ids-of-messages-differ", session -> ids());
    }

    private static Message only(MessageConsumer consumer) throws Exception {
        Message message = consumer.receive(PATIENCE);
        equal(message == null, false, "whether nothing came");
        return message;
    }

    private static void priorities() throws Exception {
        try (Jms jms = Jms.open()) {
            Queue queue = jms.queue("priorities");
            MessageConsumer consumer = jms.consumer(queue);
            MessageProducer producer = jms.session.createProducer(queue);
            for (int priority = 0; priority <= 9; priority++) {
                producer.send(jms.session.createTextMessage("x"), DeliveryMode.PERSISTENT, priority, 0);
                equal(only(consumer).getJMSPriority(), priority, "the priority");
            }
        }
    }

    private static void defaults() throws Exception {
        try (Jms jms = Jms.open()) {
            Queue queue = jms.queue("defaults");
            MessageConsumer consumer = jms.consumer(queue);
            MessageProducer producer = jms.session.createProducer(queue);
            producer.send(jms.session.createTextMessage("plain"));
            Message plain = only(consumer);
            equal(plain.getJMSPriority(), 4, "the usual priority");
            equal(plain.getJMSDeliveryMode(), DeliveryMode.PERSISTENT, "the usual mode");
            equal(plain.getJMSExpiration(), 0L, "the usual expiration");
            producer.setPriority(8);
            producer.setDeliveryMode(DeliveryMode.NON_PERSISTENT);
            producer.setTimeToLive(60_000);
            producer.send(jms.session.createTextMessage("set"));
            Message set = only(consumer);
            equal(set.getJMSPriority(), 8, "the priority");
            equal(set.getJMSDeliveryMode(), DeliveryMode.NON_PERSISTENT, "the mode");
            equal(set.getJMSExpiration(), set.getJMSTimestamp() + 60_000, "the expiration");
        }
    }

    private static void noTimestamps() throws Exception {
        try (Jms jms = Jms.open()) {
            Queue queue = jms.queue("timestamps");
            MessageConsumer consumer = jms.consumer(queue);
            MessageProducer producer = jms.session.createProducer(queue);
            producer.setDisableMessageTimestamp(true);
            producer.send(jms.session.createTextMessage("x"));
            equal(only(consumer).getJMSTimestamp(), 0L, "the timestamp");
        }
    }

    private static void noIds() throws Exception {
        try (Jms jms = Jms.open()) {
            Queue queue = jms.queue("ids");
            MessageConsumer consumer = jms.consumer(queue);
            MessageProducer producer = jms.session.createProducer(queue);
            producer.setDisableMessageID(true);
            producer.send(jms.session.createTextMessage("a"));
            producer.send(jms.session.createTextMessage("b"));
            expect(consumer, "a", "b");
            nothing(consumer);
        }
    }

    private static void forever() throws Exception {
        try (Jms jms = Jms.open()) {
            Queue queue = jms.queue("forever");
            MessageProducer producer = jms.session.createProducer(queue);
            producer.send(jms.session.createTextMessage("a"), DeliveryMode.PERSISTENT, 4, 0);
            producer.send(jms.session.createTextMessage("b"), DeliveryMode.PERSISTENT, 4, Integer.MAX_VALUE * 1000L);
            MessageConsumer consumer = jms.consumer(queue);
            equal(only(consumer).getJMSExpiration(), 0L, "the expiration");
            equal(text(consumer), "b", "what lives long");
        }
    }

    private static void expiresInWindow() throws Exception {
        try (Jms jms = Jms.open(); Jms other = Jms.open()) {
            Queue queue = jms.queue("window");
            MessageConsumer consumer = jms.consumer(queue);
            MessageProducer producer = jms.session.createProducer(queue);
            producer.send(jms.session.createTextMessage("short"), DeliveryMode.NON_PERSISTENT, 4, 100);
            producer.send(jms.session.createTextMessage("long"), DeliveryMode.NON_PERSISTENT, 4, 60_000);
            Thread.sleep(200);
            expect(consumer, "long");
            nothing(consumer);
            consumer.close();
            nothing(other.consumer(queue));
        }
    }

    private static void expiredBefore() throws Exception {
        try (Jms jms = Jms.open()) {
            Queue queue = jms.queue("before");
            MessageConsumer consumer = jms.consumer(queue);
            MessageProducer producer = jms.session.createProducer(queue);
            producer.send(jms.session.createTextMessage("never"), DeliveryMode.NON_PERSISTENT, 4, 1);
            producer.send(jms.session.createTextMessage("always"), DeliveryMode.NON_PERSISTENT, 4, 0);
            Message message = only(consumer);
            // If the machine is fast enough, a millisecond has not passed.
            equal(text(text(message).equals("never") ? only(consumer) : message), "always", "what lives on");
        }
    }

    private static void callbacks() throws Exception {
        try (Jms jms = Jms.open()) {
            Queue queue = jms.queue("callbacks");
            ActiveMQMessageProducer producer = (ActiveMQMessageProducer) jms.session.createProducer(queue);
            CountDownLatch told = new CountDownLatch(500);
            List<String> failures = Collections.synchronizedList(new ArrayList<>());
            for (String text : numbered(500)) {
                producer.send(jms.session.createTextMessage(text), new org.apache.activemq.AsyncCallback() {
                    @Override
                    public void onSuccess() {
                        told.countDown();
                    }

                    @Override
                    public void onException(jakarta.jms.JMSException failure) {
                        failures.add(failure.toString());
                        told.countDown();
                    }
                });
            }
            equal(told.await(PATIENCE, TimeUnit.MILLISECONDS), true, "whether all are told");
            equal(failures, List.of(), "failures");
            expect(jms.consumer(queue), numbered(500));
        }
    }

    private static void anonymous() throws Exception {
        try (Jms jms = Jms.open()) {
            MessageProducer producer = jms.session.createProducer(null);
            List<Destination> destinations = List.of(
                    jms.queue("anonymous"), jms.topic("anonymous"), jms.session.createTemporaryQueue(), jms.session.createTemporaryTopic());
            for (Destination destination : destinations) {
                MessageConsumer consumer = jms.consumer(destination);
                producer.send(destination, jms.session.createTextMessage(destination.toString()));
                expect(consumer, destination.toString());
                consumer.close();
            }
        }
    }

    private static void reused() throws Exception {
        try (Jms jms = Jms.open()) {
            Queue queue = jms.queue("reused");
            MessageProducer producer = jms.session.createProducer(queue);
            TextMessage message = jms.session.createTextMessage();
            List<String> ids = new ArrayList<>();
            for (int i = 0; i < 3; i++) {
                message.setText("m" + i);
                message.setIntProperty("n", i);
                producer.send(message);
                ids.add(message.getJMSMessageID());
            }
            MessageConsumer consumer = jms.consumer(queue);
            for (int i = 0; i < 3; i++) {
                Message got = only(consumer);
                equal(text(got), "m" + i, "the text");
                equal(got.getIntProperty("n"), i, "the property");
                equal(got.getJMSMessageID(), ids.get(i), "the id");
            }
        }
    }

    private static void passedOn() throws Exception {
        try (Jms jms = Jms.open()) {
            Queue from = jms.queue("from");
            Queue to = jms.queue("to");
            Message sent = jms.session.createTextMessage("x");
            sent.setStringProperty("colour", "red");
            sent.setJMSCorrelationID("c");
            jms.send(from, sent);
            Message got = only(jms.consumer(from));
            String id = got.getJMSMessageID();
            jms.send(to, got);
            Message passed = only(jms.consumer(to));
            equal(text(passed), "x", "the text");
            equal(passed.getStringProperty("colour"), "red", "the property");
            equal(passed.getJMSCorrelationID(), "c", "the correlation id");
            equal(passed.getJMSDestination(), to, "the destination");
            equal(passed.getJMSRedelivered(), false, "whether it came before");
            equal(passed.getJMSMessageID().equals(id), false, "whether the id is the same");
        }
    }

    private static void replyTo() throws Exception {
        try (Jms jms = Jms.open(); Jms other = Jms.open()) {
            Queue queue = jms.queue("reply");
            MessageConsumer consumer = other.consumer(queue);
            List<Destination> places = List.of(
                    jms.queue("answers"), jms.topic("answers"), jms.session.createTemporaryQueue(), jms.session.createTemporaryTopic());
            for (Destination place : places) {
                MessageConsumer answers = jms.consumer(place);
                Message sent = jms.session.createTextMessage("?");
                sent.setJMSReplyTo(place);
                jms.send(queue, sent);
                Destination found = only(consumer).getJMSReplyTo();
                equal(found, place, "where to reply");
                other.send(found, "!");
                expect(answers, "!");
                answers.close();
            }
        }
    }

    private static void correlationBytes() throws Exception {
        try (Jms jms = Jms.open()) {
            Queue queue = jms.queue("correlation");
            Message sent = jms.session.createTextMessage("x");
            sent.setJMSCorrelationIDAsBytes("grüße".getBytes("UTF-8"));
            jms.send(queue, sent);
            equal(new String(only(jms.consumer(queue)).getJMSCorrelationIDAsBytes(), "UTF-8"), "grüße", "the correlation id");
        }
    }

    private static void alwaysSync() throws Exception {
        try (Jms jms = Jms.open("?jms.alwaysSyncSend=true&jms.sendTimeout=5000", Session.AUTO_ACKNOWLEDGE)) {
            Queue queue = jms.queue("sync");
            MessageProducer producer = jms.session.createProducer(queue);
            producer.setDeliveryMode(DeliveryMode.NON_PERSISTENT);
            for (String text : numbered(50)) {
                producer.send(jms.session.createTextMessage(text));
            }
            expect(jms.consumer(queue), numbered(50));
        }
    }

    private static void noCopies() throws Exception {
        String options = "?jms.copyMessageOnSend=false&jms.disableTimeStampsByDefault=true&jms.useAsyncSend=true&jms.dispatchAsync=false";
        try (Jms jms = Jms.open(options, Session.AUTO_ACKNOWLEDGE)) {
            Queue queue = jms.queue("copies");
            MessageConsumer consumer = jms.consumer(queue);
            jms.send(queue, numbered(100));
            expect(consumer, numbered(100));
        }
    }

    private static void ten() throws Exception {
        try (Jms jms = Jms.open("?jms.useAsyncSend=true", Session.AUTO_ACKNOWLEDGE)) {
            Queue queue = jms.queue("ten");
            List<Thread> threads = new ArrayList<>();
            for (int i = 0; i < 10; i++) {
                String who = "p" + i;
                Session session = jms.session(Session.AUTO_ACKNOWLEDGE);
                Thread thread = new Thread(() -> {
                    try (MessageProducer producer = session.createProducer(queue)) {
                        for (String text : numbered(100)) {
                            producer.send(session.createTextMessage(who + " " + text));
                        }
                    } catch (jakarta.jms.JMSException failure) {
                        failure.printStackTrace();
                    }
                });
                threads.add(thread);
                thread.start();
            }
            List<String> found = texts(jms.consumer(queue), 1000);
            for (int i = 0; i < 10; i++) {
                String who = "p" + i + " ";
                List<String> own = found.stream().filter(text -> text.startsWith(who)).map(text -> text.substring(who.length())).toList();
                equal(own, List.of(numbered(100)), "what came of " + who);
            }
            for (Thread thread : threads) {
                thread.join(PATIENCE);
            }
        }
    }

    private static void names() throws Exception {
        try (Jms jms = Jms.open()) {
            for (String part : List.of("with space", "a/b", "a:b", "grüße", "漢字", "UPPER.lower", "a-b_c$d", "a..b")) {
                Queue queue = jms.session.createQueue(Jms.unique("name") + part);
                jms.send(queue, part);
                MessageConsumer consumer = jms.consumer(queue);
                Message message = only(consumer);
                equal(text(message), part, "what came");
                equal(message.getJMSDestination(), queue, "where it was sent to");
                consumer.close();
                jms.forget(queue);
            }
        }
    }

    private static void pattern() throws Exception {
        try (Jms jms = Jms.open()) {
            String base = jms.queue("pattern").getQueueName();
            MessageConsumer first = jms.consumer(jms.session.createQueue(base + ".a"));
            MessageConsumer second = jms.consumer(jms.session.createQueue(base + ".b"));
            MessageConsumer deeper = jms.consumer(jms.session.createQueue(base + ".b.c"));
            jms.send(jms.session.createQueue(base + ".*"), "x");
            expect(first, "x");
            expect(second, "x");
            nothing(deeper);
        }
    }

    private static void manyAtOnce() throws Exception {
        try (Jms jms = Jms.open()) {
            List<MessageConsumer> consumers = new ArrayList<>();
            List<String> names = new ArrayList<>();
            for (int i = 0; i < 20; i++) {
                Queue queue = jms.queue("at-once");
                consumers.add(jms.consumer(queue));
                names.add(queue.getQueueName());
            }
            Queue all = jms.session.createQueue(String.join(",", names));
            jms.send(all, "a", "b");
            for (int i = 0; i < 20; i++) {
                Message message = only(consumers.get(i));
                equal(text(message), "a", "what came");
                equal(message.getJMSDestination().toString(), "queue://" + names.get(i), "where it was sent to");
                expect(consumers.get(i), "b");
            }
        }
    }

    private static void ids() throws Exception {
        try (Jms jms = Jms.open(); Jms other = Jms.open()) {
            Queue queue = jms.queue("ids");
            MessageConsumer consumer = jms.consumer(queue);
            List<String> found = new ArrayList<>();
            for (Jms sender : List.of(jms, other)) {
                sender.send(queue, "a", "b");
                Session second = sender.session(Session.AUTO_ACKNOWLEDGE);
                second.createProducer(queue).send(second.createTextMessage("c"));
            }
            for (int i = 0; i < 6; i++) {
                found.add(only(consumer).getJMSMessageID());
            }
            equal(found.stream().distinct().count(), 6L, "how many ids there are");
            equal(found.stream().allMatch(id -> id.startsWith("ID:")), true, "whether all begin with ID:");
        }
    }
}
