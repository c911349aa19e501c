package roadstead;

import static roadstead.Jms.expect;
import static roadstead.Jms.nothing;
import static roadstead.Suite.equal;

import com.atomikos.icatch.jta.UserTransactionManager;
import com.atomikos.jms.AtomikosConnectionFactoryBean;
import jakarta.jms.Connection;
import jakarta.jms.Message;
import jakarta.jms.MessageConsumer;
import jakarta.jms.Queue;
import jakarta.jms.Session;
import jakarta.transaction.Status;
import java.nio.file.Files;

/** Transactions of a transaction manager (Atomikos), in each of which one pool of connections consumes and another sends. */
final class XaManaged {
    private XaManaged() {}

    static void addTo(Suite suite) {
        suite.add("with-a-transaction-manager", 60_000, session -> managed());
    }

    private static void managed() throws Exception {
        System.setProperty("com.atomikos.icatch.log_base_dir", Files.createTempDirectory("transactions").toString());
        UserTransactionManager manager = new UserTransactionManager();
        manager.init();
        AtomikosConnectionFactoryBean consuming = pool("consuming");
        AtomikosConnectionFactoryBean sending = pool("sending");
        try (Jms jms = Jms.open()) {
            transaction(manager, jms, consuming, sending, true);
            transaction(manager, jms, consuming, sending, false);
        } finally {
            consuming.close();
            sending.close();
            manager.close();
        }
    }

    private static AtomikosConnectionFactoryBean pool(String name) {
        AtomikosConnectionFactoryBean pool = new AtomikosConnectionFactoryBean();
        pool.setUniqueResourceName(name);
        pool.setXaConnectionFactory(Branch.factory());
        pool.setPoolSize(1);
        return pool;
    }

    private static void transaction(UserTransactionManager manager, Jms jms, AtomikosConnectionFactoryBean consuming,
            AtomikosConnectionFactoryBean sending, boolean isCommitted) throws Exception {
        Queue from = jms.queue("from");
        Queue to = jms.queue("to");
        jms.send(from, "in");
        manager.begin();
        Connection in = consuming.createConnection();
        Connection out = sending.createConnection();
        in.start();
        expect(in.createSession(true, Session.SESSION_TRANSACTED).createConsumer(from), "in");
        Session session = out.createSession(true, Session.SESSION_TRANSACTED);
        session.createProducer(to).send(session.createTextMessage("out"));
        MessageConsumer committed = jms.consumer(to);
        nothing(committed);
        in.close();
        out.close();
        if (isCommitted) {
            manager.commit();
            expect(committed, "out");
        } else {
            manager.rollback();
            nothing(committed);
        }
        equal(manager.getStatus(), Status.STATUS_NO_TRANSACTION, "what is left of the transaction");
        Message left = jms.consumer(from).receive(isCommitted ? Jms.MOMENT : Jms.PATIENCE);
        equal(Jms.text(left), isCommitted ? null : "in", "what is left where it came from");
    }
}
