package roadstead;

import static roadstead.Jms.deliveries;
import static roadstead.Jms.expect;
import static roadstead.Jms.numbered;
import static roadstead.Jms.text;
import static roadstead.Suite.equal;

import jakarta.jms.ConnectionFactory;
import jakarta.jms.JMSException;
import jakarta.jms.Message;
import jakarta.jms.MessageConsumer;
import jakarta.jms.Queue;
import jakarta.jms.Topic;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashSet;
import java.util.List;
import org.springframework.jms.core.JmsTemplate;
import org.springframework.jms.listener.AbstractMessageListenerContainer;
import org.springframework.jms.listener.DefaultMessageListenerContainer;
import org.springframework.jms.listener.SessionAwareMessageListener;
import org.springframework.jms.listener.SimpleMessageListenerContainer;
import org.springframework.jms.listener.adapter.MessageListenerAdapter;

/** Spring's listener containers. */
final class SpringContainers {
    private SpringContainers() {}

    static void addTo(Suite suite) {
        suite.add("container-listens", session -> listens(new DefaultMessageListenerContainer()));
        suite.add("simple-container-listens", session -> listens(new SimpleMessageListenerContainer()));
        suite.add("container-of-many-consumers", session -> concurrent());
        suite.add("container-in-transactions", session -> transacted());
        suite.add("container-commits-what-its-listener-sends", session -> sends());
        suite.add("container-stops-and-starts", session -> stops());
        suite.add("container-of-a-durable-subscription", session -> durable());
        suite.add("container-answers", session -> answers());
        suite.add("container-goes-on-after-a-restart", 60_000, session -> restart());
    }

    private interface Work {
        void on(Message message) throws Exception;
    }

    /** Starts a container. Returns what its listener gets: texts with counts of deliveries. */
    private static List<String> start(AbstractMessageListenerContainer container, String name, Work work) {
        return start(container, Jms.factory(""), name, work);
    }

    private static List<String> start(AbstractMessageListenerContainer container, ConnectionFactory factory, String name, Work work) {
        List<String> found = Collections.synchronizedList(new ArrayList<>());
        container.setConnectionFactory(factory);
        container.setDestinationName(name);
        container.setMessageListener((SessionAwareMessageListener<Message>) (message, session) -> {
            found.add(text(message) + " " + deliveries(message));
            try {
                work.on(message);
            } catch (JMSException | RuntimeException failure) {
                throw failure;
            } catch (Exception failure) {
                throw new IllegalStateException(failure);
            }
        });
        if (container instanceof DefaultMessageListenerContainer polling) {
            // Between two polls it stops or takes a change.
            polling.setReceiveTimeout(100);
            polling.setRecoveryInterval(100);
        }
        container.afterPropertiesSet();
        container.start();
        return found;
    }

    private static void listens(AbstractMessageListenerContainer container) throws Exception {
        try (Jms jms = Jms.open()) {
            Queue queue = jms.queue("listens");
            List<String> found = start(container, queue.getQueueName(), message -> {});
            jms.send(queue, numbered(20));
            Suite.until(() -> found.size() == 20, "all have come");
            equal(found.get(19), "m19 1", "the last that came");
            container.destroy();
            jms.send(queue, "after");
            expect(jms.consumer(queue), "after");
        }
    }

    private static void concurrent() throws Exception {
        try (Jms jms = Jms.open()) {
            Queue queue = jms.queue("concurrent");
            DefaultMessageListenerContainer container = new DefaultMessageListenerContainer();
            container.setConcurrency("3-5");
            List<String> found = start(container, Jms.factory("?jms.prefetchPolicy.queuePrefetch=5"), queue.getQueueName(), message -> {});
            jms.send(queue, numbered(300));
            Suite.until(() -> found.size() == 300, "all have come");
            equal(new HashSet<>(found).size(), 300, "how many differ");
            container.destroy();
        }
    }

    private static void transacted() throws Exception {
        try (Jms jms = Jms.open()) {
            Queue queue = jms.queue("transacted");
            DefaultMessageListenerContainer container = new DefaultMessageListenerContainer();
            container.setSessionTransacted(true);
            List<String> found = start(container, queue.getQueueName(), message -> {
                if (!message.getJMSRedelivered()) {
                    throw new IllegalArgumentException("this is to fail");
                }
            });
            jms.send(queue, "a");
            Suite.until(() -> found.size() == 2, "it has come twice");
            jms.send(queue, "b");
            Suite.until(() -> found.size() == 4, "the other has come twice");
            equal(found, List.of("a 1", "a 2", "b 1", "b 2"), "what came");
            container.destroy();
            Jms.nothing(jms.consumer(queue));
        }
    }

    private static void sends() throws Exception {
        try (Jms jms = Jms.open()) {
            Queue from = jms.queue("from");
            Queue to = jms.queue("to");
            DefaultMessageListenerContainer container = new DefaultMessageListenerContainer();
            container.setSessionTransacted(true);
            ConnectionFactory factory = Jms.factory("");
            JmsTemplate template = new JmsTemplate(factory);
            template.setSessionTransacted(true);
            // The template takes part in the listener's transaction.
            start(container, factory, from.getQueueName(), message -> {
                template.convertAndSend(to.getQueueName(), text(message) + " " + deliveries(message));
                if (!message.getJMSRedelivered()) {
                    throw new IllegalArgumentException("this is to fail");
                }
            });
            jms.send(from, "x");
            MessageConsumer result = jms.consumer(to);
            expect(result, "x 2");
            Jms.nothing(result);
            container.destroy();
        }
    }

    private static void stops() throws Exception {
        try (Jms jms = Jms.open()) {
            Queue queue = jms.queue("stops");
            DefaultMessageListenerContainer container = new DefaultMessageListenerContainer();
            List<String> found = start(container, queue.getQueueName(), message -> {});
            jms.send(queue, "a");
            Suite.until(() -> found.size() == 1, "the first has come");
            container.shutdown();
            jms.send(queue, "b");
            container.initialize();
            container.start();
            Suite.until(() -> found.size() == 2, "the second has come");
            equal(found, List.of("a 1", "b 1"), "what came");
            container.destroy();
        }
    }

    private static void durable() throws Exception {
        String client = Jms.unique("client");
        try (Jms jms = Jms.open()) {
            Topic topic = jms.topic("durable");
            List<String> all = new ArrayList<>();
            for (String text : List.of("a", "b")) {
                DefaultMessageListenerContainer container = new DefaultMessageListenerContainer();
                container.setPubSubDomain(true);
                container.setSubscriptionDurable(true);
                container.setClientId(client);
                container.setDurableSubscriptionName("sub");
                List<String> found = start(container, topic.getTopicName(), message -> {});
                if (text.equals("a")) {
                    Suite.until(() -> container.isRegisteredWithDestination(), "the subscription is there");
                    jms.send(topic, text);
                }
                Suite.until(() -> found.size() == 1, "it has come");
                all.addAll(found);
                container.destroy();
                if (text.equals("a")) {
                    jms.send(topic, "b");
                }
            }
            equal(all, List.of("a 1", "b 1"), "what came");
        }
        try (Jms jms = Jms.named(client)) {
            jms.session.unsubscribe("sub");
        }
    }

    /** What an adapter calls. */
    public static final class Capitals {
        public String handleMessage(String text) {
            return text.toUpperCase();
        }
    }

    private static void answers() throws Exception {
        SpringTemplates.with((template, queue) -> {
            DefaultMessageListenerContainer container = new DefaultMessageListenerContainer();
            container.setConnectionFactory(Jms.factory(""));
            container.setDestinationName(queue);
            container.setMessageListener(new MessageListenerAdapter(new Capitals()));
            container.setReceiveTimeout(100);
            container.afterPropertiesSet();
            container.start();
            Message answer = template.sendAndReceive(queue, session -> session.createTextMessage("ping"));
            equal(text(answer), "PING", "the answer");
            container.destroy();
        });
    }

    private static void restart() throws Exception {
        Queue queue;
        DefaultMessageListenerContainer container = new DefaultMessageListenerContainer();
        container.setSessionTransacted(true);
        List<String> found;
        try (Jms jms = Jms.open()) {
            queue = jms.queue("restart");
            found = start(container, queue.getQueueName(), message -> {});
            jms.send(queue, "before");
            Suite.until(() -> found.size() == 1, "the first has come");
            Suite.restartBroker();
        }
        try (Jms jms = Jms.open()) {
            jms.send(queue, "after");
            Suite.until(() -> found.stream().anyMatch(text -> text.startsWith("after")), "the container goes on");
            container.destroy();
            jms.forget(queue);
        } finally {
            container.destroy();
        }
        // The restart may have come before the first commit, and the second into the window of a consumer that was given up.
        List<String> texts = found.stream().map(text -> text.split(" ")[0]).distinct().toList();
        equal(texts, List.of("before", "after"), "what came");
    }
}
