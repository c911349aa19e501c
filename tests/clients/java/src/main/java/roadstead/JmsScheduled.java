package roadstead;

import static roadstead.Jms.PATIENCE;
import static roadstead.Jms.expect;
import static roadstead.Jms.nothing;
import static roadstead.Jms.text;
import static roadstead.Suite.equal;

import jakarta.jms.DeliveryMode;
import jakarta.jms.Destination;
import jakarta.jms.JMSException;
import jakarta.jms.Message;
import jakarta.jms.MessageConsumer;
import jakarta.jms.MessageProducer;
import jakarta.jms.Queue;
import jakarta.jms.Session;
import jakarta.jms.TextMessage;
import jakarta.jms.Topic;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import org.apache.activemq.ScheduledMessage;

/** Messages that come later, and again. ActiveMQ has them only where its configuration says so. */
final class JmsScheduled {
    private static final long DELAY = 600;

    private JmsScheduled() {}

    static void addTo(Suite suite) {
        suite.add("a-message-comes-after-its-delay", session -> delayed());
        suite.add("a-delayed-message-to-a-topic", session -> toTopic());
        suite.add("a-message-comes-again-and-again", session -> repeated());
        suite.add("a-delay-begins-with-the-commit", session -> transacted());
        suite.add("a-delayed-message-has-its-time-before-it", session -> expiring());
        suite.add("what-is-scheduled-is-seen-and-removed", session -> managed());
    }

    /** Asks the scheduler to do something. */
    private static void manage(Jms jms, String action, Destination replyTo, Object... properties) throws JMSException {
        Message question = jms.session.createMessage();
        question.setStringProperty(ScheduledMessage.AMQ_SCHEDULER_ACTION, action);
        for (int i = 0; i < properties.length; i += 2) {
            question.setObjectProperty((String) properties[i], properties[i + 1]);
        }
        question.setJMSReplyTo(replyTo);
        jms.send(jms.session.createQueue(ScheduledMessage.AMQ_SCHEDULER_MANAGEMENT_DESTINATION), question);
    }

    private static void managed() throws Exception {
        try (Jms jms = Jms.open()) {
            Queue queue = jms.queue("managed");
            MessageConsumer consumer = jms.consumer(queue);
            Destination replyTo = jms.session.createTemporaryQueue();
            MessageConsumer replies = jms.consumer(replyTo);
            // Nothing else comes at these times.
            long day = 24L * 60 * 60 * 1000;
            long start = System.currentTimeMillis() + 100 * day;
            jms.send(queue, scheduled(jms, "removed by its job", 101 * day));
            jms.send(queue, scheduled(jms, "removed by its time", 102 * day));
            jms.send(queue, scheduled(jms, "kept", DELAY));
            Object[] within = {
                ScheduledMessage.AMQ_SCHEDULER_ACTION_START_TIME, start,
                ScheduledMessage.AMQ_SCHEDULER_ACTION_END_TIME, Long.toString(start + 3 * day)
            };
            manage(jms, ScheduledMessage.AMQ_SCHEDULER_ACTION_BROWSE, replyTo, within);
            Message first = replies.receive(PATIENCE);
            equal(text(first), "removed by its job", "what is scheduled");
            String job = first.getStringProperty(ScheduledMessage.AMQ_SCHEDULED_ID);
            expect(replies, "removed by its time");
            nothing(replies);
            manage(jms, ScheduledMessage.AMQ_SCHEDULER_ACTION_REMOVE, null, ScheduledMessage.AMQ_SCHEDULED_ID, job);
            manage(jms, ScheduledMessage.AMQ_SCHEDULER_ACTION_BROWSE, replyTo, within);
            expect(replies, "removed by its time");
            manage(jms, ScheduledMessage.AMQ_SCHEDULER_ACTION_REMOVEALL, null, within);
            manage(jms, ScheduledMessage.AMQ_SCHEDULER_ACTION_BROWSE, replyTo, within);
            nothing(replies);
            expect(consumer, "kept");
        }
    }

    static Message scheduled(Jms jms, String text, long delay) throws JMSException {
        TextMessage message = jms.session.createTextMessage(text);
        message.setLongProperty(ScheduledMessage.AMQ_SCHEDULED_DELAY, delay);
        return message;
    }

    private static void delayed() throws Exception {
        try (Jms jms = Jms.open()) {
            Queue queue = jms.queue("delayed");
            MessageConsumer consumer = jms.consumer(queue);
            long sent = System.currentTimeMillis();
            jms.send(queue, scheduled(jms, "later", DELAY));
            jms.send(queue, "now");
            expect(consumer, "now");
            Message later = consumer.receive(PATIENCE);
            equal(text(later), "later", "what came later");
            equal(System.currentTimeMillis() - sent >= DELAY, true, "whether its delay was over");
            equal(later.getStringProperty("scheduledJobId") != null, true, "whether it tells of its job");
            equal(later.propertyExists(ScheduledMessage.AMQ_SCHEDULED_DELAY), false, "whether it asks for a delay still");
            nothing(consumer);
        }
    }

    private static void toTopic() throws Exception {
        try (Jms jms = Jms.open()) {
            Topic topic = jms.topic("delayed");
            jms.send(topic, scheduled(jms, "later", DELAY));
            // Who subscribes in between gets it.
            MessageConsumer consumer = jms.consumer(topic);
            expect(consumer, "later");
        }
    }

    private static void repeated() throws Exception {
        try (Jms jms = Jms.open()) {
            Queue queue = jms.queue("repeated");
            MessageConsumer consumer = jms.consumer(queue);
            Message message = scheduled(jms, "again", 100);
            message.setLongProperty(ScheduledMessage.AMQ_SCHEDULED_PERIOD, 150);
            message.setIntProperty(ScheduledMessage.AMQ_SCHEDULED_REPEAT, 2);
            jms.send(queue, message);
            Set<String> ids = new HashSet<>();
            List<String> jobs = new ArrayList<>();
            for (int i = 0; i < 3; i++) {
                Message one = consumer.receive(PATIENCE);
                equal(text(one), "again", "what came");
                ids.add(one.getJMSMessageID());
                jobs.add(one.getStringProperty("scheduledJobId"));
            }
            equal(ids.size(), 3, "different messages");
            equal(jobs, Collections.nCopies(3, jobs.get(0)), "the job");
            nothing(consumer);
        }
    }

    private static void transacted() throws Exception {
        try (Jms jms = Jms.open(Session.SESSION_TRANSACTED); Jms other = Jms.open()) {
            Queue queue = jms.queue("transacted");
            MessageConsumer consumer = other.consumer(queue);
            jms.send(queue, scheduled(jms, "rolled back", 1));
            jms.session.rollback();
            jms.send(queue, scheduled(jms, "committed", DELAY));
            nothing(consumer);
            long committed = System.currentTimeMillis();
            jms.session.commit();
            expect(consumer, "committed");
            equal(System.currentTimeMillis() - committed >= DELAY, true, "whether the delay began with the commit");
            nothing(consumer);
        }
    }

    private static void expiring() throws Exception {
        try (Jms jms = Jms.open()) {
            Queue queue = jms.queue("expiring");
            send(jms, queue, scheduled(jms, "later", DELAY), DELAY / 2);
            MessageConsumer consumer = jms.consumer(queue);
            Message later = consumer.receive(PATIENCE);
            equal(text(later), "later", "what came, though its time to live is less than its delay");
        }
    }

    private static void send(Jms jms, Destination destination, Message message, long ttl) throws JMSException {
        MessageProducer producer = jms.session.createProducer(destination);
        producer.send(message, DeliveryMode.PERSISTENT, 4, ttl);
        producer.close();
    }
}
