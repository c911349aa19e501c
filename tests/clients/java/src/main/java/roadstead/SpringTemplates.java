package roadstead;

import static roadstead.Jms.PATIENCE;
import static roadstead.Jms.text;
import static roadstead.Suite.equal;

import jakarta.jms.ConnectionFactory;
import jakarta.jms.DeliveryMode;
import jakarta.jms.Message;
import jakarta.jms.MessageConsumer;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.springframework.jms.InvalidClientIDException;
import org.springframework.jms.InvalidSelectorException;
import org.springframework.jms.connection.CachingConnectionFactory;
import org.springframework.jms.connection.JmsTransactionManager;
import org.springframework.jms.connection.SingleConnectionFactory;
import org.springframework.jms.core.JmsMessagingTemplate;
import org.springframework.jms.core.JmsTemplate;
import org.springframework.transaction.support.TransactionTemplate;

/** Spring's JmsTemplate, with a connection for each use, with one for all, and with sessions that are kept. */
final class SpringTemplates {
    private SpringTemplates() {}

    static void addTo(Suite suite) {
        suite.add("template-sends-and-receives", session -> simple());
        suite.add("template-converts", session -> converts());
        suite.add("template-sets-headers", session -> headers());
        suite.add("template-asks", session -> asks());
        suite.add("template-of-topics", session -> topics());
        suite.add("template-with-priority-and-time", session -> quality());
        suite.add("template-finds-nothing", session -> nothing());
        suite.add("template-acknowledges-by-hand", session -> byHand());
        suite.add("template-with-kept-sessions", session -> kept());
        suite.add("template-in-transactions", session -> transactions());
        suite.add("template-translates-exceptions", session -> exceptions());
        suite.add("messaging-template", session -> messaging());
    }

    static JmsTemplate template(ConnectionFactory factory) {
        JmsTemplate template = new JmsTemplate(factory);
        template.setReceiveTimeout(PATIENCE);
        return template;
    }

    interface Work {
        void with(JmsTemplate template, String queue) throws Exception;
    }

    /** Does something with a template and a queue that is removed at the end. */
    static void with(Work work) throws Exception {
        SingleConnectionFactory factory = new SingleConnectionFactory(Jms.factory(""));
        try (Jms jms = Jms.open()) {
            work.with(template(factory), jms.queue("spring").getQueueName());
        } finally {
            factory.destroy();
        }
    }

    private static void simple() throws Exception {
        // A connection for each call.
        try (Jms jms = Jms.open()) {
            JmsTemplate template = template(Jms.factory(""));
            String queue = jms.queue("spring").getQueueName();
            template.send(queue, session -> session.createTextMessage("x"));
            equal(text(template.receive(queue)), "x", "what came");
        }
    }

    private static void converts() throws Exception {
        with((template, queue) -> {
            template.convertAndSend(queue, "text");
            template.convertAndSend(queue, new byte[] {1, 2});
            template.convertAndSend(queue, Map.of("k", 5));
            template.convertAndSend(queue, new ArrayList<>(List.of("x")));
            equal(template.receiveAndConvert(queue), "text", "a text");
            equal(template.receiveAndConvert(queue), new byte[] {1, 2}, "bytes");
            equal(template.receiveAndConvert(queue), Map.of("k", 5), "a map");
            equal(template.receiveAndConvert(queue), List.of("x"), "an object");
        });
    }

    private static void headers() throws Exception {
        with((template, queue) -> {
            template.convertAndSend(queue, "x", message -> {
                message.setStringProperty("colour", "red");
                message.setJMSCorrelationID("c");
                return message;
            });
            Message message = template.receive(queue);
            equal(message.getStringProperty("colour"), "red", "the property");
            equal(message.getJMSCorrelationID(), "c", "the correlation id");
        });
    }

    private static void asks() throws Exception {
        with((template, queue) -> {
            try (Jms server = Jms.open()) {
                MessageConsumer requests = server.consumer(server.session.createQueue(queue));
                requests.setMessageListener(request -> {
                    try {
                        server.send(request.getJMSReplyTo(), text(request).toUpperCase());
                    } catch (jakarta.jms.JMSException failure) {
                        failure.printStackTrace();
                    }
                });
                for (String word : List.of("one", "two", "three")) {
                    Message answer = template.sendAndReceive(queue, session -> session.createTextMessage(word));
                    equal(text(answer), word.toUpperCase(), "the answer");
                }
                requests.close();
            }
        });
    }

    private static void topics() throws Exception {
        with((template, queue) -> {
            try (Jms jms = Jms.open()) {
                jakarta.jms.Topic topic = jms.topic("spring");
                MessageConsumer consumer = jms.consumer(topic);
                template.setPubSubDomain(true);
                template.convertAndSend(topic.getTopicName(), "x");
                Jms.expect(consumer, "x");
            }
        });
    }

    private static void quality() throws Exception {
        with((template, queue) -> {
            template.setExplicitQosEnabled(true);
            template.setDeliveryPersistent(false);
            template.setPriority(8);
            template.setTimeToLive(60_000);
            template.convertAndSend(queue, "x");
            Message message = template.receive(queue);
            equal(message.getJMSDeliveryMode(), DeliveryMode.NON_PERSISTENT, "the mode");
            equal(message.getJMSPriority(), 8, "the priority");
            equal(message.getJMSExpiration(), message.getJMSTimestamp() + 60_000, "the expiration");
        });
    }

    private static void nothing() throws Exception {
        with((template, queue) -> {
            template.setReceiveTimeout(Jms.MOMENT);
            equal(template.receive(queue), null, "what came");
            template.setReceiveTimeout(JmsTemplate.RECEIVE_TIMEOUT_NO_WAIT);
            equal(template.receive(queue), null, "what is there");
        });
    }

    private static void byHand() throws Exception {
        with((template, queue) -> {
            template.setSessionAcknowledgeMode(jakarta.jms.Session.CLIENT_ACKNOWLEDGE);
            template.convertAndSend(queue, "a");
            template.convertAndSend(queue, "b");
            // The template acknowledges for the caller.
            equal(text(template.receive(queue)), "a", "what came");
            equal(text(template.receive(queue)), "b", "what follows");
        });
    }

    private static void kept() throws Exception {
        CachingConnectionFactory factory = new CachingConnectionFactory(Jms.factory(""));
        factory.setSessionCacheSize(5);
        try (Jms jms = Jms.open()) {
            JmsTemplate template = template(factory);
            String queue = jms.queue("kept").getQueueName();
            for (int i = 0; i < 100; i++) {
                template.convertAndSend(queue, "m" + i);
                equal(template.receiveAndConvert(queue), "m" + i, "what came");
            }
            // Its consumers are kept too, and hold the queue.
            factory.destroy();
        } finally {
            factory.destroy();
        }
    }

    private static void transactions() throws Exception {
        SingleConnectionFactory factory = new SingleConnectionFactory(Jms.factory(""));
        try (Jms jms = Jms.open()) {
            JmsTemplate template = template(factory);
            template.setSessionTransacted(true);
            TransactionTemplate transaction = new TransactionTemplate(new JmsTransactionManager(factory));
            String from = jms.queue("from").getQueueName();
            String to = jms.queue("to").getQueueName();
            template.convertAndSend(from, "in");
            for (boolean isGood : new boolean[] {false, true}) {
                transaction.executeWithoutResult(status -> {
                    equal(template.receiveAndConvert(from), "in", "what came");
                    template.convertAndSend(to, "good: " + isGood);
                    if (!isGood) {
                        status.setRollbackOnly();
                    }
                });
            }
            equal(template.receiveAndConvert(to), "good: true", "what was committed");
            template.setReceiveTimeout(Jms.MOMENT);
            equal(template.receive(to), null, "what else came");
            equal(template.receive(from), null, "what is left");
        } finally {
            factory.destroy();
        }
    }

    private static void exceptions() throws Exception {
        String client = Jms.unique("client");
        try (Jms jms = Jms.named(client)) {
            org.apache.activemq.ActiveMQConnectionFactory same = Jms.factory("");
            same.setClientID(client);
            fails(InvalidClientIDException.class, () -> template(same).convertAndSend("never", "x"));
        }
        with((template, queue) -> {
            template.setPubSubDomain(true);
            fails(InvalidSelectorException.class, () -> template.receiveSelected(queue, "a b c"));
        });
    }

    private static void fails(Class<? extends RuntimeException> expected, Runnable attempt) {
        try {
            attempt.run();
        } catch (RuntimeException failure) {
            equal(failure.getClass(), expected, "what failed");
            return;
        }
        throw new AssertionError("this should fail");
    }

    private static void messaging() throws Exception {
        with((template, queue) -> {
            JmsMessagingTemplate messaging = new JmsMessagingTemplate(template);
            messaging.convertAndSend(queue, "x", Map.of("colour", "red", "n", 5));
            org.springframework.messaging.Message<?> message = messaging.receive(queue);
            equal(message.getPayload(), "x", "what came");
            equal(List.of(message.getHeaders().get("colour"), message.getHeaders().get("n")), List.of("red", 5), "the headers");
        });
    }
}
