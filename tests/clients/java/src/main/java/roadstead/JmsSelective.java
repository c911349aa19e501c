package roadstead;

import static roadstead.Jms.PATIENCE;
import static roadstead.Jms.nothing;
import static roadstead.Jms.text;
import static roadstead.Jms.texts;
import static roadstead.Suite.equal;

import jakarta.jms.InvalidSelectorException;
import jakarta.jms.Message;
import jakarta.jms.MessageConsumer;
import jakarta.jms.MessageProducer;
import jakarta.jms.Queue;
import jakarta.jms.QueueBrowser;
import jakarta.jms.Session;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;

/** Selectors of queues, and browsers. */
final class JmsSelective {
    private JmsSelective() {}

    static void addTo(Suite suite) {
        suite.add("queue-selectors", session -> selectors());
        suite.add("what-one-does-not-select-is-for-others", session -> others());
        suite.add("selectors-of-header-fields", session -> fields());
        suite.add("a-selector-deep-in-a-queue", 60_000, session -> deep());
        suite.add("what-comes-back-is-selected-again", session -> returned());
        suite.add("bad-selectors-of-queues-are-refused", session -> badSelector());
        suite.add("browsing", session -> browsing());
        suite.add("browsing-with-a-selector", session -> selectiveBrowsing());
        suite.add("browsing-takes-nothing", session -> onlyLooking());
        suite.add("browsing-more-than-fits-a-window", session -> large());
    }

    private static void send(Jms jms, Queue queue, int count) throws Exception {
        MessageProducer producer = jms.session.createProducer(queue);
        for (int i = 0; i < count; i++) {
            Message message = jms.session.createTextMessage("m" + i);
            message.setIntProperty("n", i);
            message.setStringProperty("colour", i % 2 == 1 ? "red" : "blue");
            message.setJMSType("type " + i % 3);
            producer.send(message);
        }
        producer.close();
    }

    private static void selectors() throws Exception {
        try (Jms jms = Jms.open()) {
            Queue queue = jms.queue("selective");
            MessageConsumer waiting = jms.session.createConsumer(queue, "n = 4");
            send(jms, queue, 6);
            equal(text(waiting), "m4", "what came to one that waited");
            MessageConsumer late = jms.session.createConsumer(queue, "colour = 'red' AND n BETWEEN 2 AND 9");
            equal(texts(late, 2), List.of("m3", "m5"), "what came to one that came later");
            nothing(late);
            late.close();
            waiting.close();
            equal(texts(jms.consumer(queue), 3), List.of("m0", "m1", "m2"), "what is left");
        }
    }

    private static void others() throws Exception {
        try (Jms jms = Jms.open(); Jms other = Jms.open()) {
            Queue queue = jms.queue("selective");
            MessageConsumer red = jms.session.createConsumer(queue, "colour = 'red'");
            MessageConsumer blue = other.session.createConsumer(queue, "colour = 'blue'");
            send(jms, queue, 6);
            equal(texts(red, 3), List.of("m1", "m3", "m5"), "what one got");
            equal(texts(blue, 3), List.of("m0", "m2", "m4"), "what the other got");
        }
    }

    private static void fields() throws Exception {
        try (Jms jms = Jms.open()) {
            Queue queue = jms.queue("selective");
            send(jms, queue, 3);
            MessageConsumer consumer = jms.session.createConsumer(queue, "JMSType = 'type 2' AND JMSPriority = 4 AND JMSDeliveryMode = 'PERSISTENT'");
            equal(text(consumer), "m2", "what came");
            nothing(consumer);
        }
    }

    private static void deep() throws Exception {
        try (Jms jms = Jms.open("?jms.useAsyncSend=true", Session.AUTO_ACKNOWLEDGE)) {
            Queue queue = jms.queue("deep");
            send(jms, queue, 30_000);
            MessageConsumer consumer = jms.session.createConsumer(queue, "n = 29000 OR n = 29500");
            equal(texts(consumer, 2), List.of("m29000", "m29500"), "what came");
            nothing(consumer);
            consumer.close();
            jms.forget(queue);
        }
    }

    private static void returned() throws Exception {
        try (Jms jms = Jms.open(Session.SESSION_TRANSACTED); Jms other = Jms.open()) {
            Queue queue = jms.queue("selective");
            send(other, queue, 4);
            MessageConsumer consumer = jms.session.createConsumer(queue, "colour = 'red'");
            equal(texts(consumer, 2), List.of("m1", "m3"), "what came");
            MessageConsumer waiting = other.session.createConsumer(queue, "colour = 'red'");
            nothing(waiting);
            jms.session.rollback();
            consumer.close();
            equal(texts(waiting, 2), List.of("m1", "m3"), "what came back");
        }
    }

    private static void badSelector() throws Exception {
        try (Jms jms = Jms.open()) {
            try {
                jms.session.createConsumer(jms.queue("selective"), "n >");
                throw new AssertionError("a bad selector was taken");
            } catch (InvalidSelectorException refused) {
                equal(refused.getMessage().startsWith("n >"), true, refused.getMessage());
            }
        }
    }

    private static List<String> browse(Jms jms, Queue queue, String selector) throws Exception {
        QueueBrowser browser = jms.session.createBrowser(queue, selector);
        List<String> found = new ArrayList<>();
        for (Object message : Collections.list(browser.getEnumeration())) {
            found.add(text((Message) message));
        }
        browser.close();
        return found;
    }

    private static void browsing() throws Exception {
        try (Jms jms = Jms.open()) {
            Queue queue = jms.queue("browse");
            equal(browse(jms, queue, null), List.of(), "an empty queue");
            send(jms, queue, 3);
            equal(browse(jms, queue, null), List.of("m0", "m1", "m2"), "what is there");
            equal(browse(jms, queue, null), List.of("m0", "m1", "m2"), "what is still there");
        }
    }

    private static void selectiveBrowsing() throws Exception {
        try (Jms jms = Jms.open()) {
            Queue queue = jms.queue("browse");
            send(jms, queue, 6);
            equal(browse(jms, queue, "colour = 'red'"), List.of("m1", "m3", "m5"), "what is red");
            equal(browse(jms, queue, "colour = 'green'"), List.of(), "what is green");
        }
    }

    private static void onlyLooking() throws Exception {
        try (Jms jms = Jms.open()) {
            Queue queue = jms.queue("browse");
            send(jms, queue, 2);
            browse(jms, queue, null);
            MessageConsumer consumer = jms.consumer(queue);
            Message message = consumer.receive(PATIENCE);
            equal(text(message), "m0", "what comes first");
            equal(message.getJMSRedelivered(), false, "whether it came before");
            equal(text(consumer), "m1", "what comes then");
        }
    }

    private static void large() throws Exception {
        try (Jms jms = Jms.open("?jms.useAsyncSend=true", Session.AUTO_ACKNOWLEDGE)) {
            Queue queue = jms.queue("browse");
            send(jms, queue, 3000);
            equal(browse(jms, queue, null).size(), 3000, "how many were seen");
            jms.forget(queue);
        }
    }
}
