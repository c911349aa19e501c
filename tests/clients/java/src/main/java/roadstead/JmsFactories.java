package roadstead;

import static roadstead.Jms.expect;
import static roadstead.Jms.nothing;
import static roadstead.Jms.numbered;
import static roadstead.Suite.equal;

import jakarta.jms.Connection;
import jakarta.jms.MessageConsumer;
import jakarta.jms.MessageProducer;
import jakarta.jms.Queue;
import jakarta.jms.Session;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.util.ArrayList;
import java.util.List;
import org.apache.activemq.ActiveMQConnectionFactory;

/** Connections with other settings than the usual ones. */
final class JmsFactories {
    private JmsFactories() {}

    static void addTo(Suite suite) {
        suite.add("one-of-two-addresses-is-dead", session -> failover());
        suite.add("without-stack-traces", session -> works("?wireFormat.stackTraceEnabled=false&wireFormat.tcpNoDelayEnabled=false"));
        suite.add("frames-without-a-size", session -> works("?wireFormat.sizePrefixDisabled=true"));
        suite.add("without-watching-advisories", session -> works("?jms.watchTopicAdvisories=false"));
        suite.add("dispatched-by-the-transport", session -> works("?jms.alwaysSessionAsync=false&jms.dispatchAsync=false"));
        suite.add("without-looking-for-duplicates", session -> works("?jms.checkForDuplicates=false&jms.consumerExpiryCheckEnabled=false"));
        suite.add("without-inactivity", session -> works("?wireFormat.maxInactivityDuration=0"));
        suite.add("from-sockets-of-channels", session -> channels());
        suite.add("a-connection-closes-with-everything-open", session -> closes());
        suite.add("a-connection-without-a-session", session -> bare());
        suite.add("five-hundred-sessions-after-each-other", session -> churn());
    }

    /** A client with these options sends, gets, commits and asks. */
    private static void works(String options) throws Exception {
        try (Jms jms = Jms.open(options, Session.AUTO_ACKNOWLEDGE)) {
            Queue queue = jms.queue("works");
            MessageConsumer consumer = jms.consumer(queue);
            jms.send(queue, numbered(10));
            expect(consumer, numbered(10));
            Session transacted = jms.session(Session.SESSION_TRANSACTED);
            transacted.createProducer(queue).send(transacted.createTextMessage("committed"));
            nothing(consumer);
            transacted.commit();
            expect(consumer, "committed");
            Queue replies = jms.session.createTemporaryQueue();
            MessageConsumer fromReplies = jms.consumer(replies);
            jms.send(replies, "reply");
            expect(fromReplies, "reply");
        }
    }

    private static void failover() throws Exception {
        int free;
        try (ServerSocket socket = new ServerSocket(0, 1, InetAddress.getLoopbackAddress())) {
            free = socket.getLocalPort();
        }
        String addresses = "failover:(tcp://127.0.0.1:" + free + "," + Jms.uri() + ")?randomize=false&timeout=5000";
        Connection connection = new ActiveMQConnectionFactory("guest", "guest", addresses).createConnection();
        connection.start();
        try (Jms jms = new Jms(connection, Session.AUTO_ACKNOWLEDGE)) {
            Queue queue = jms.queue("failover");
            jms.send(queue, "x");
            expect(jms.consumer(queue), "x");
        }
    }

    private static void channels() throws Exception {
        Connection connection = new ActiveMQConnectionFactory("guest", "guest", Jms.uri().replace("tcp:", "nio:")).createConnection();
        connection.start();
        try (Jms jms = new Jms(connection, Session.AUTO_ACKNOWLEDGE)) {
            Queue queue = jms.queue("nio");
            jms.send(queue, numbered(100));
            expect(jms.consumer(queue), numbered(100));
        }
    }

    private static void closes() throws Exception {
        Queue queue;
        try (Jms jms = Jms.open(); Jms other = Jms.open()) {
            queue = other.queue("everything");
            jms.send(queue, "a", "b");
            for (int mode : new int[] {Session.AUTO_ACKNOWLEDGE, Session.CLIENT_ACKNOWLEDGE, Session.SESSION_TRANSACTED}) {
                Session session = jms.session(mode);
                session.createProducer(queue).send(session.createTextMessage("mode " + mode));
                session.createConsumer(jms.topic("everything"));
                session.createConsumer(jms.queue(queue, "consumer.prefetchSize=1"));
                session.createTemporaryQueue();
            }
            jms.close();
            jms.close();
            MessageConsumer rest = other.consumer(queue);
            List<String> found = new ArrayList<>(Jms.texts(rest, 4));
            found.sort(null);
            equal(found, List.of("a", "b", "mode 1", "mode 2"), "what is left");
            nothing(rest);
        }
    }

    private static void bare() throws Exception {
        Connection connection = Jms.factory("").createConnection();
        connection.start();
        connection.stop();
        connection.start();
        connection.close();
        connection.close();
        // One that was never started has not said who it is, and may go as well.
        Jms.factory("").createConnection().close();
    }

    private static void churn() throws Exception {
        try (Jms jms = Jms.open()) {
            Queue queue = jms.queue("churn");
            for (int i = 0; i < 500; i++) {
                Session session = jms.session(i % 2 == 0 ? Session.AUTO_ACKNOWLEDGE : Session.SESSION_TRANSACTED);
                MessageProducer producer = session.createProducer(queue);
                producer.setDeliveryMode(jakarta.jms.DeliveryMode.NON_PERSISTENT);
                producer.send(session.createTextMessage("m" + i));
                if (session.getTransacted()) {
                    session.commit();
                }
                session.close();
            }
            expect(jms.consumer(queue), numbered(500));
        }
    }
}
